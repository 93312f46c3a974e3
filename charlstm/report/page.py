"""The review document as one HTML page. Any text in it is shown, and none is obeyed.

No text becomes a tag, acts as a control character or changes a direction.

Control characters, marks of direction, and what Unicode has not assigned are shown as code points. They
could hide text otherwise, or rearrange the page around them.
"""

import base64
import hashlib
import itertools
import json
import unicodedata
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from charlstm.evaluation.baselines import Baselines
from charlstm.evaluation.plots import COLORS, losses_svg
from charlstm.evaluation.results import HEADLINE
from charlstm.evaluation.text_statistics import MAX_SEARCHED, MIN_COPIED, MIN_PHRASE
from charlstm.interpretation.analysis import CellsDocument, Tracked
from charlstm.parameter_names import SEED
from charlstm.report.document import Copy, ReviewDocument, Sample, in_order
from charlstm.report.playground import Playground, start_of

SHOWN = (
    "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # layout, and parts of emoji and of words
)
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
RETURN, TAB = "\N{RETURN SYMBOL}", "\N{RIGHTWARDS ARROW TO BAR}"


def visible(text: str) -> Markup:
    """`text` as HTML; line breaks stay line breaks, for an element that keeps them."""
    names = {
        ord(one): f'<span class="control">{symbol(one)}</span>'
        for one in set(text)
        if is_hidden(one)
    }
    return Markup(str(escape(text)).translate(names))


def visible_prompt(text: str) -> Markup:
    """A prompt with its line breaks to be seen: it is often nothing else."""
    return Markup(str(visible(text)).replace("\n", f'<span class="control">{RETURN}</span>\n'))


def one_line(text: str, most: int = 60) -> str:
    """`text` as plain text in one line, cut to `most` characters; to be escaped."""
    cut = text if len(text) <= most else text[:most] + ELLIPSIS
    plain = "".join(f"[{symbol(one)}]" if is_hidden(one) else one for one in cut)
    return plain.replace("\n", RETURN).replace("\t", TAB)


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


MAX_PROMPT = 300  # characters of it next to a text


class Piece(NamedTuple):
    """A stretch of a text, copied or not."""

    text: str
    copy: Copy | None


def page_of(
    document: ReviewDocument,
    *,
    recipe: str | None = None,
    playground: Playground | None = None,
    cells: CellsDocument | None = None,
    baselines: Baselines | None = None,
) -> str:
    """The page as text. Without `playground`, `cells` or `baselines`, it is without what shows them.

    `recipe` names the parameters in the title. Without it, the model's sizes do.
    """
    template = environment().get_template("review.html")
    return template.render(
        document=document,
        title=title_of(document, recipe),
        recipe=recipe,
        picture=losses_svg([document.curves]),
        playground=playground,
        start=start_of(document.samples),
        cells=cells,
        baselines=baselines,
    )


def title_of(document: ReviewDocument, recipe: str | None) -> str:
    """The title of a model, e.g. `shakespear · quick · seed 1`."""
    seed = document.parameters.get(SEED)
    sizes = f"LSTM {document.num_layers} \N{MULTIPLICATION SIGN} {document.hidden_size}"
    parts = [document.corpus, recipe or sizes, None if seed is None else f"seed {seed}"]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def pieces_of(sample: Sample) -> list[Piece]:
    """A sample in pieces; where copies overlap, the later one is marked from the end of the earlier one on."""
    pieces, done = [], 0
    for copy in sample.copies:
        start, end = max(copy.start, done), copy.start + copy.length
        if start < end:
            pieces += [Piece(sample.text[done:start], None), Piece(sample.text[start:end], copy)]
            done = end
    return [piece for piece in [*pieces, Piece(sample.text[done:], None)] if piece.text]


@cache
def environment() -> Environment:
    """Templates that escape whatever they are given; with what every page needs."""
    loader = PackageLoader("charlstm.report", "templates")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def source(name: str) -> Markup:
        return Markup(loader.get_source(made, name)[0])

    made.globals |= {
        "source": source,
        "hash_of": lambda name: base64.b64encode(
            hashlib.sha256(source(name).encode()).digest()
        ).decode(),
        "json_of": json.dumps,
        "colors": COLORS,
        "min_copied": MIN_COPIED,
        "min_phrase": MIN_PHRASE,
        "max_searched": MAX_SEARCHED,
        "darkest": DARKEST,
        "runs_of": runs_of,
        "pieces_of": pieces_of,
        "max_prompt": MAX_PROMPT,
        "in_order": in_order,
        "headline": HEADLINE,
        "visible": visible,
        "visible_prompt": visible_prompt,
        "one_line": one_line,
        "shown_number": shown_number,
    }
    return made
