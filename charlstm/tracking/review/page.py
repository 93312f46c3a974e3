"""`review.html`: a review document as one file that needs no network, for any browser, with scripts or without."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from charlstm.evaluation.baselines import Baselines
from charlstm.evaluation.text_statistics import MAX_SEARCHED, MIN_COPIED
from charlstm.interpretation.document import CellsDocument
from charlstm.storage.files import write_text
from charlstm.tracking.plots import COLORS, LossCurve, losses_svg
from charlstm.tracking.review.cells import DARKEST, runs_of
from charlstm.tracking.review.document import Copy, ReviewDocument, Sample
from charlstm.tracking.review.explained import FIGURES, shown_number
from charlstm.tracking.review.playground import Playground, start_of
from charlstm.tracking.review.visible import one_line, visible, visible_prompt

MAX_PAGE_BYTES = 2_000_000
MAX_PROMPT = 300  # characters of it beside a text
PACKAGE = "charlstm.tracking.review"


class Piece(NamedTuple):
    """A stretch of a text, copied or not; `number` counts the copies of the page, from 1."""

    text: str
    copy: Copy | None
    number: int


class Shown(NamedTuple):
    """A sample as the page has it: the end of its prompt, and its text in pieces, `num_cut` characters left out."""

    sample: Sample
    prompt: str
    pieces: list[Piece]
    num_cut: int


def write_page(
    path: Path,
    document: ReviewDocument,
    *,
    recipe: str | None = None,
    playground: Playground | None = None,
    cells: CellsDocument | None = None,
    baselines: Baselines | None = None,
) -> None:
    """Write the page: at most MAX_PAGE_BYTES and the model of the playground. It says what was cut for that."""
    write_text(path, page_of(document, recipe=recipe, playground=playground, cells=cells, baselines=baselines))


def page_of(
    document: ReviewDocument,
    *,
    recipe: str | None = None,
    playground: Playground | None = None,
    cells: CellsDocument | None = None,
    baselines: Baselines | None = None,
) -> str:
    """The page as text; without `playground`, `cells` or `baselines`, without what shows them.

    `recipe` names the parameters in the title. Without it, the model's sizes do.
    """
    fixed = {
        "document": document,
        "title": title_of(document, recipe),
        "recipe": recipe,
        "picture": picture_of([document]),
        "playground": playground,
        "start": start_of(document.samples),
        "cells": cells,
        "baselines": baselines,
    }

    def render(limit: int) -> str:
        return template("review.html").render(samples=list(shown_samples(document.samples, limit)), **fixed)

    return fitted([document], render, MAX_PAGE_BYTES + len(playground.model or "" if playground else ""))


def title_of(document: ReviewDocument, recipe: str | None) -> str:
    """E.g. `shakespear · quick · seed 1`."""
    seed = document.parameters.get("train.seed")
    sizes = f"LSTM {document.num_layers} \N{MULTIPLICATION SIGN} {document.hidden_size}"
    parts = [document.corpus, recipe or sizes, None if seed is None else f"seed {seed}"]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def picture_of(documents: Sequence[ReviewDocument]) -> Markup:
    """Their loss curves over one another, as SVG."""
    return Markup(losses_svg([LossCurve(one.curves.training, one.curves.validation) for one in documents]))


def fitted(documents: Sequence[ReviewDocument], render: Callable[[int], str], max_bytes: int = MAX_PAGE_BYTES) -> str:
    """The first page that is small enough, of those that `render` makes with ever fewer characters of each text."""
    limit = max((len(one.text) for document in documents for one in document.samples), default=0)
    while len((page := render(limit)).encode()) > max_bytes and limit > 0:
        limit //= 2
    return page


def shown_samples(samples: Sequence[Sample], limit: int, first_number: int = 1) -> Iterator[Shown]:
    """The samples with at most `limit` characters of each; their copies are numbered on."""
    number = first_number
    for sample in samples:
        pieces = list(_pieces(sample, limit, number))
        number += sum(piece.copy is not None for piece in pieces)
        prompt = sample.prompt[max(0, len(sample.prompt) - min(MAX_PROMPT, limit)) :]
        yield Shown(sample, prompt, pieces, sample.num_chars - min(limit, len(sample.text)))


def _pieces(sample: Sample, limit: int, number: int) -> Iterator[Piece]:
    """Where copies overlap, the later one is marked from the end of the earlier one on."""
    done = 0
    for copy in sample.copies:
        start, end = max(copy.start, done), copy.start + copy.length
        if start >= end or end > limit:
            continue
        if start > done:
            yield Piece(sample.text[done:start], None, 0)
        yield Piece(sample.text[start:end], copy, number)
        done, number = end, number + 1
    if done < min(limit, len(sample.text)):
        yield Piece(sample.text[done:limit], None, 0)


def template(name: str, *packages: str) -> Template:
    """A template of this package or of `packages`."""
    return _environment(packages).get_template(name)


@cache
def _environment(packages: tuple[str, ...]) -> Environment:
    """Templates that escape whatever they are given; with what every page needs."""
    loader = ChoiceLoader([PackageLoader(package) for package in (PACKAGE, *packages)])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

    def source(name: str) -> Markup:
        return Markup(loader.get_source(made, name)[0])

    made.globals |= {
        "source": source,
        "hash_of": lambda name: base64.b64encode(hashlib.sha256(source(name).encode()).digest()).decode(),
        "json_of": json.dumps,
        "figures": FIGURES,
        "colors": COLORS,
        "min_copied": MIN_COPIED,
        "max_searched": MAX_SEARCHED,
        "darkest": DARKEST,
        "runs_of": runs_of,
        "visible": visible,
        "visible_prompt": visible_prompt,
        "one_line": one_line,
        "shown_number": shown_number,
    }
    return made
