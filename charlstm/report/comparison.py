"""Several review documents as one page: what differs, and their texts side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from charlstm.errors import CharlstmError
from charlstm.evaluation.plots import losses_svg
from charlstm.evaluation.published import TEST_PREFIX
from charlstm.report.document import ReviewDocument, Value
from charlstm.report.page import Shown, environment, fitted, shown_samples
from charlstm.sections import MAX_NAMED, NOT_OF_A_MODEL, PublishedLoss, differing, values_in_words

MAX_RUNS = 10  # colors that can be told apart, columns that can be read
Labeled = tuple[str, ReviewDocument]


class Row(NamedTuple):
    """A name, and what each model has there; `best` are the columns with the lowest value."""

    name: str
    cells: list[Value]
    best: frozenset[int] = frozenset()


class Group(NamedTuple):
    """The texts that were drawn alike; None where a model has none."""

    prompt: str
    temperature: float
    seed: int
    texts: list[Shown | None]


def check_number(count: int) -> None:
    """Raise `CharlstmError` if that many models are too many for a page, or none."""
    if not 1 <= count <= MAX_RUNS:
        raise CharlstmError(f"expected 1 to {MAX_RUNS} models to review side by side, found {count or 'none'}")


def comparison_of(labeled: Sequence[Labeled], verdicts: Sequence[str] = ()) -> str:
    """The page of at most MAX_RUNS models, each with the label by which it is called there, as text.

    `verdicts` say whether one of them is better.
    """
    labels, documents = [label for label, _ in labeled], [document for _, document in labeled]
    parameters = parameter_rows(documents)
    values = {
        "labels": labels,
        "documents": documents,
        "picture": losses_svg([one.curves for one in documents]),
        "parameters": parameters,
        "num_same": len({name for one in documents for name in one.parameters}) - len(parameters),
        "losses": loss_rows(documents),
        "verdicts": verdicts,
        "published": published_losses(documents),
        "is_one_text": len({one.validation_sha256 for one in documents}) == 1,
        "temperatures": temperatures_of(documents),
        "by_temperature": [{row.temperature: row for row in one.figures} for one in documents],
    }
    page = environment().get_template("comparison.html")
    return fitted(documents, lambda limit: page.render(**values, groups=groups_of(documents, limit)))


def parameter_rows(documents: Sequence[ReviewDocument]) -> list[Row]:
    """The parameters that are not the same everywhere; a model that lacks one has an empty cell."""
    columns = [one.parameters for one in documents]
    return [Row(name, [one.get(name, "") for one in columns]) for name in differing(columns)]


def differences(documents: Sequence[ReviewDocument], recipes: Sequence[str | None]) -> list[str]:
    """Each model's differences from the others, in a few words: `hidden_size 64`; empty where nothing differs.

    Where many parameters differ, their recipes are named, if all are known and not the same.
    """
    parts = [[one.corpus] if len({other.corpus_sha256 for other in documents}) > 1 else [] for one in documents]
    names = [name for name in differing([one.parameters for one in documents]) if not name.startswith(NOT_OF_A_MODEL)]
    is_of_recipes = len(names) > MAX_NAMED and None not in recipes and len(set(recipes)) > 1
    if is_of_recipes:
        return [", ".join([*part, recipe or ""]) for part, recipe in zip(parts, recipes, strict=True)]
    for part, document in zip(parts, documents, strict=True):
        own = document.parameters
        part += [values_in_words({name: own[name]}) for name in names[:MAX_NAMED] if name in own]
        part += [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return [", ".join(part) for part in parts]


def loss_rows(documents: Sequence[ReviewDocument]) -> list[Row]:
    """Nats per character by protocol. None is the best where the models were not measured on the same text, nor
    on the test part, which is not there to choose by, nor where windows are of bytes and of characters."""
    protocols = dict.fromkeys(protocol for one in documents for protocol in one.losses)
    is_one_text = len(documents) > 1 and len({one.validation_sha256 for one in documents}) == 1
    is_one_unit = len({one.parameters.get("encode.unit") for one in documents}) == 1
    rows = []
    for protocol in protocols:
        found = [one.losses[protocol].nats_per_char if protocol in one.losses else None for one in documents]
        lowest = min(loss for loss in found if loss is not None)
        is_fair = is_one_text and (is_one_unit or protocol == "stateful") and not protocol.startswith(TEST_PREFIX)
        best = [column for column, loss in enumerate(found) if loss == lowest and is_fair]
        rows.append(Row(protocol, list(found), frozenset(best)))
    return rows


def published_losses(documents: Sequence[ReviewDocument]) -> list[PublishedLoss]:
    """Published losses, each once, where all models were measured on the text that they hold for."""
    if not all(one.published for one in documents):
        return []
    found = [other for one in documents for other in one.published]
    return [other for index, other in enumerate(found) if other not in found[:index]]


def temperatures_of(documents: Sequence[ReviewDocument]) -> list[float | None]:
    """The temperatures at which any model has texts, then None for held-out text."""
    found = {row.temperature for one in documents for row in one.figures if row.temperature is not None}
    return [*sorted(found), None]


def groups_of(documents: Sequence[ReviewDocument], limit: int) -> list[Group]:
    """Texts by prompt, temperature and seed, in the order in which they come up; at most `limit` characters of each."""
    columns, number = [], 1
    for document in documents:
        shown = list(shown_samples(document.samples, limit, number))
        number += sum(piece.copy is not None for one in shown for piece in one.pieces)
        columns.append({(one.sample.prompt, one.sample.temperature, one.sample.seed): one for one in shown})
    keys = dict.fromkeys(key for column in columns for key in column)
    return [Group(*key, [column.get(key) for column in columns]) for key in keys]
