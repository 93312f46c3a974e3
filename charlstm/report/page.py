"""The review document as one HTML page. Any text in it is shown, and none is obeyed.

No text becomes a tag, acts as a control character or changes a direction.

Control characters, marks of direction, and what Unicode has not assigned are shown as code points. They
could hide text otherwise, or rearrange the page around them.
"""

import base64
import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from charlstm.evaluation.baselines import Baselines
from charlstm.evaluation.plots import COLORS, losses_svg
from charlstm.evaluation.statistics import MAX_SEARCHED, MIN_COPIED, MIN_PHRASE
from charlstm.interpretation.document import CellsDocument, Tracked
from charlstm.report.document import Copy, ReviewDocument, Sample
from charlstm.report.playground import Playground, start_of
from charlstm.sections import SEED

SHOWN = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # layout, and parts of emoji and of words
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
RETURN, TAB = "\N{RETURN SYMBOL}", "\N{RIGHTWARDS ARROW TO BAR}"


def visible(text: str) -> Markup:
    """`text` as HTML; line breaks stay line breaks, for an element that keeps them."""
    names = {ord(one): f'<span class="control">{symbol(one)}</span>' for one in set(text) if is_hidden(one)}
    return Markup(str(escape(text)).translate(names))


def visible_prompt(text: str) -> Markup:
    """A prompt with its line breaks to be seen: it is often nothing else."""
    return Markup(str(visible(text)).replace("\n", f'<span class="control">{RETURN}</span>\n'))


def one_line(text: str, most: int = 60) -> str:
    """`text` as plain text in one line, cut to `most` characters; to be escaped."""
    cut = text if len(text) <= most else text[:most] + ELLIPSIS
    plain = "".join(f"[{symbol(one)}]" if is_hidden(one) else one for one in cut)
    return plain.replace("\n", RETURN).replace("\t", TAB)


def with_code(text: str) -> Markup:
    """`text` as HTML, with what is between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def is_hidden(character: str) -> bool:
    """Whether a browser would show nothing, or another order of what is around it."""
    return character not in SHOWN and unicodedata.category(character) in HIDDEN_CATEGORIES


def symbol(character: str) -> str:
    """E.g. `U+202E`; few fonts have the symbols for control characters."""
    return f"U+{ord(character):04X}"


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


# The text of an excerpt in runs of one color, by what a cell did at each character.

DARKEST = 4  # steps of color on either side of none
STEP = 25  # levels to a step


class Run(NamedTuple):
    """Neighboring characters of one color: `step` is from -DARKEST, lowest, to DARKEST, highest."""

    text: str
    step: int


def runs_of(tracked: Tracked) -> list[Run]:
    """The excerpt of a confirmed label, from beginning to end."""
    steps = [round(level / STEP) for level in tracked.levels]
    pairs = zip(tracked.excerpt, steps, strict=True)
    groups = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [Run("".join(character for character, _ in group), step) for step, group in groups]


# `review.html`: a review document as one file that needs no network, for any browser, with scripts or without.

MAX_PAGE_BYTES = 2_000_000
MAX_PROMPT = 300  # characters of it beside a text


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


def page_of(
    document: ReviewDocument,
    *,
    recipe: str | None = None,
    playground: Playground | None = None,
    cells: CellsDocument | None = None,
    baselines: Baselines | None = None,
) -> str:
    """The page as text, of at most MAX_PAGE_BYTES and the model of the playground; it says what was cut for that.

    Without `playground`, `cells` or `baselines`, it is without what shows them. `recipe` names the parameters in the
    title. Without it, the model's sizes do.
    """
    fixed = {
        "document": document,
        "title": title_of(document, recipe),
        "recipe": recipe,
        "picture": losses_svg([document.curves]),
        "playground": playground,
        "start": start_of(document.samples),
        "cells": cells,
        "baselines": baselines,
    }

    page = environment().get_template("review.html")

    def render(limit: int) -> str:
        return page.render(samples=list(shown_samples(document.samples, limit)), **fixed)

    return fitted([document], render, MAX_PAGE_BYTES + len(playground.model or "" if playground else ""))


def title_of(document: ReviewDocument, recipe: str | None) -> str:
    """The title of a model, e.g. `shakespear · quick · seed 1`."""
    seed = document.parameters.get(SEED)
    sizes = f"LSTM {document.num_layers} \N{MULTIPLICATION SIGN} {document.hidden_size}"
    parts = [document.corpus, recipe or sizes, None if seed is None else f"seed {seed}"]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


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
    """A sample in pieces; where copies overlap, the later one is marked from the end of the earlier one on."""
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


@cache
def environment() -> Environment:
    """Templates that escape whatever they are given; with what every page needs."""
    loader = PackageLoader("charlstm.report", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

    def source(name: str) -> Markup:
        return Markup(loader.get_source(made, name)[0])

    made.globals |= {
        "source": source,
        "hash_of": lambda name: base64.b64encode(hashlib.sha256(source(name).encode()).digest()).decode(),
        "json_of": json.dumps,
        "colors": COLORS,
        "min_copied": MIN_COPIED,
        "min_phrase": MIN_PHRASE,
        "max_searched": MAX_SEARCHED,
        "darkest": DARKEST,
        "runs_of": runs_of,
        "visible": visible,
        "visible_prompt": visible_prompt,
        "one_line": one_line,
        "with_code": with_code,
        "shown_number": shown_number,
    }
    return made
