"""Several review documents as one page: what differs, and their texts side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import ReviewError
from charlstm.evaluation.protocol_names import TEST_PREFIX
from charlstm.storage.files import write_text
from charlstm.tracking.review.document import ReviewDocument, TextFigures, Value
from charlstm.tracking.review.page import Shown, fitted, picture_of, shown_samples, template

MAX_RUNS = 10  # colors that can be told apart, columns that can be read
PACKAGE = "charlstm.tracking.comparison"
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


def write_comparison(path: Path, labeled: Sequence[Labeled]) -> None:
    """Write the page of at most MAX_RUNS models, each with the label by which it is called there.

    Raises:
        ReviewError: there are none, or too many.
    """
    write_text(path, comparison_of(labeled))


def check_number(count: int) -> None:
    """Raise `ReviewError` if that many models are too many for a page, or none."""
    if not 1 <= count <= MAX_RUNS:
        raise ReviewError(
            f"expected 1 to {MAX_RUNS} models to review side by side, found {count}; name fewer of them"
            if count
            else "expected at least one model to review, found none"
        )


def comparison_of(labeled: Sequence[Labeled]) -> str:
    """The page as text."""
    check_number(len(labeled))
    labels, documents = [label for label, _ in labeled], [document for _, document in labeled]
    values = {
        "labels": labels,
        "documents": documents,
        "picture": picture_of(documents),
        "parameters": differing([one.parameters for one in documents]),
        "num_same": sum(1 for name in documents[0].parameters if _is_same(name, documents)),
        "losses": loss_rows(documents),
        "published": published_losses(documents),
        "is_one_text": len({one.validation_sha256 for one in documents}) == 1,
        "temperatures": temperatures_of(documents),
        "figures_of": figures_of,
    }
    page = template("comparison.html", PACKAGE)
    return fitted(documents, lambda limit: page.render(**values, groups=groups_of(documents, limit)))


def differing(columns: Sequence[dict[str, Value]]) -> list[Row]:
    """The parameters that are not the same everywhere; a model that lacks one has an empty cell."""
    names = dict.fromkeys(name for one in columns for name in one)
    rows = [Row(name, [one.get(name, "") for one in columns]) for name in names]
    return [row for row in rows if len({(type(cell), cell) for cell in row.cells}) > 1]


def loss_rows(documents: Sequence[ReviewDocument]) -> list[Row]:
    """Nats per character by protocol. None is the best where the models were not measured on the same text, nor
    on the test part: it is not there to choose by."""
    protocols = dict.fromkeys(protocol for one in documents for protocol in one.losses)
    is_one_text = len({one.validation_sha256 for one in documents}) == 1
    rows = []
    for protocol in protocols:
        found = [one.losses[protocol].nats_per_char if protocol in one.losses else None for one in documents]
        lowest = min(loss for loss in found if loss is not None)
        is_fair = is_one_text and len(documents) > 1 and not protocol.startswith(TEST_PREFIX)
        best = [column for column, loss in enumerate(found) if loss == lowest and is_fair]
        rows.append(Row(protocol, list(found), frozenset(best)))
    return rows


def published_losses(documents: Sequence[ReviewDocument]) -> dict[str, float]:
    """By protocol, where all models were measured on the text that it holds for."""
    if not all(one.published for one in documents):
        return {}
    return {other.protocol: other.nats_per_char for one in documents for other in one.published}


def temperatures_of(documents: Sequence[ReviewDocument]) -> list[float | None]:
    """All that any model has texts of, then None for held-out text."""
    found = {row.temperature for one in documents for row in one.figures if row.temperature is not None}
    return [*sorted(found), None]


def figures_of(document: ReviewDocument, temperature: float | None) -> TextFigures | None:
    """A model's figures at a temperature, if it has any."""
    return next((row for row in document.figures if row.temperature == temperature), None)


def groups_of(documents: Sequence[ReviewDocument], limit: int) -> list[Group]:
    """Texts by prompt, temperature and seed, in the order in which they come up; at most `limit` characters of each."""
    columns, number = [], 1
    for document in documents:
        shown = list(shown_samples(document.samples, limit, number))
        number += sum(piece.copy is not None for one in shown for piece in one.pieces)
        columns.append({(one.sample.prompt, one.sample.temperature, one.sample.seed): one for one in shown})
    keys = dict.fromkeys(key for column in columns for key in column)
    return [Group(*key, [column.get(key) for column in columns]) for key in keys]


def _is_same(name: str, documents: Sequence[ReviewDocument]) -> bool:
    return not differing([{name: one.parameters[name]} if name in one.parameters else {} for one in documents])
