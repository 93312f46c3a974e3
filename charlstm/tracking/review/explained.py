"""What the figures of a review mean, and when they are bad, a line each."""

from typing import NamedTuple

from charlstm.evaluation.text_statistics import MIN_COPIED, MIN_PHRASE


class Explained(NamedTuple):
    """A figure of `TextFigures` by its field, how its number is shown, and what it says."""

    field: str
    kind: str
    title: str
    meaning: str


FIGURES = (
    Explained(
        "known_words",
        "share",
        "Known words",
        "Words that the training text has, too, whatever their case. Far below held-out text: it misspells.",
    ),
    Explained(
        "distinct_bigrams",
        "share",
        "Distinct word pairs",
        "Different pairs of words in a row, as a share of a text's pairs. Far below held-out text: it repeats itself.",
    ),
    Explained(
        "longest_copied",
        "count",
        "Longest copied span",
        "Characters in a row that the training text has once or twice. Far above held-out text: it recites.",
    ),
    Explained(
        "copied",
        "share",
        f"Copied, {MIN_COPIED} or more",
        f"Characters in copied spans of {MIN_COPIED} or more. Far above held-out text: it recites.",
    ),
    Explained(
        "phrases",
        "share",
        "Phrases of the corpus",
        f"Characters in spans of {MIN_PHRASE} or more that the training text has three times or more, such as names of "
        "speakers. They are no copies.",
    ),
    Explained(
        "nats_per_char",
        "nats",
        "Nats per character",
        "The model's own loss on the text. Far below held-out text: it plays safe; far above: it writes noise.",
    ),
)


def shown_number(value: float | None, kind: str) -> str:
    """A number as the page has it."""
    if value is None:
        return "\N{EN DASH}"
    match kind:
        case "share":
            return f"{value:.1%}"
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:.4f}"
