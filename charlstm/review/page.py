"""The HTML page of one model's review, which shows every text safely as plain text.

No text becomes a tag, acts as a control character, or changes the direction of writing. Control
characters, direction marks and unassigned characters are shown as code points. Otherwise they
could hide text, or rearrange the page around them.
"""

import base64
import hashlib
import itertools
import json
import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from charlstm.evaluation.baselines import Baselines
from charlstm.evaluation.plots import COLORS, losses_svg
from charlstm.evaluation.results import HEADLINE
from charlstm.evaluation.text_statistics import MAX_SEARCHED, MIN_COPIED, MIN_PHRASE
from charlstm.generation.quantized import Matrix, QuantizedModel
from charlstm.interpretation.analysis import CellsDocument, Tracked
from charlstm.parameter_names import SEED
from charlstm.review.document import Copy, ReviewDocument, Sample, in_order, typical_sample
from charlstm.text.vocabulary import Vocab

MAX_BYTES = 8_000_000  # per model in a page


class Playground(NamedTuple):
    """A model as ASCII text that is safe in HTML, or the reason why the page has no model."""

    model: Markup | None
    reason: str = ""


# Newlines, tabs and joiners are shown unchanged, although they belong to hidden categories.
SHOWN = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
RETURN = "\N{RETURN SYMBOL}"
MAX_PROMPT = 300  # maximum number of a prompt's characters that are shown
DARKEST = 4  # number of shades for low cell states; high cell states have as many
STEP = 25  # levels per shade
FORMATS = {"share": ".1%", "count": ",.0f", "nats": ".4f"}


def page_of(
    document: ReviewDocument,
    *,
    recipe: str | None = None,
    playground: Playground | None = None,
    cells: CellsDocument | None = None,
    baselines: Baselines | None = None,
) -> str:
    """Return the review page of a model.

    Args:
        document: the review.
        recipe: name of the recipe for the title. Default: the model's sizes.
        playground: content of the section "Playground". None omits the section.
        cells: content of the section "Single cells". None omits the section.
        baselines: losses to compare with the model's. None omits their table.
    """
    template = environment().get_template("review.html")
    return template.render(
        document=document,
        title=title_of(document, recipe),
        recipe=recipe,
        picture=losses_svg([document.curves]),
        playground=playground,
        start=typical_sample(document.samples),
        cells=cells,
        baselines=baselines,
    )


def title_of(document: ReviewDocument, recipe: str | None) -> str:
    """Return the title of a model's page, such as `shakespear · quick · seed 1`."""
    seed = document.parameters.get(SEED)
    sizes = f"LSTM {document.num_layers} \N{MULTIPLICATION SIGN} {document.hidden_size}"
    parts = [document.corpus, recipe or sizes, None if seed is None else f"seed {seed}"]
    return " \N{MIDDLE DOT} ".join(filter(None, parts))


@cache
def environment() -> Environment:
    """Return the Jinja environment, which escapes all values and has the pages' functions."""
    loader = PackageLoader("charlstm.review", "templates")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def source(name: str) -> Markup:
        return Markup(loader.get_source(made, name)[0])

    def hash_of(name: str) -> str:
        digest = hashlib.sha256(source(name).encode()).digest()
        return base64.b64encode(digest).decode()

    made.globals |= {
        "source": source,
        "hash_of": hash_of,
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


def pieces_of(sample: Sample) -> list[tuple[str, Copy | None]]:
    """Split a sample at its copied spans. Return the pieces, each with its copied span or None.

    An overlap of two spans belongs to the first span.
    """
    pieces: list[tuple[str, Copy | None]] = []
    done = 0
    for copy in sample.copies:
        start = max(copy.start, done)
        end = copy.start + copy.length
        if start < end:
            pieces += [(sample.text[done:start], None), (sample.text[start:end], copy)]
            done = end
    pieces.append((sample.text[done:], None))
    return [(text, copy) for text, copy in pieces if text]


def runs_of(tracked: Tracked) -> list[tuple[str, int]]:
    """Split a confirmed label's excerpt into runs of characters with the same color.

    Return each run's text and color, from -DARKEST for the lowest cell states to DARKEST for the
    highest.
    """
    colors = [round(level / STEP) for level in tracked.levels]
    pairs = zip(tracked.excerpt, colors, strict=True)
    groups = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [("".join(character for character, _ in group), color) for color, group in groups]


def visible(text: str) -> Markup:
    """Return `text` as HTML in which hidden characters are visible. Line breaks are unchanged."""
    names = {
        ord(character): f'<span class="control">{symbol(character)}</span>'
        for character in set(text)
        if is_hidden(character)
    }
    return Markup(str(escape(text)).translate(names))


def visible_prompt(text: str) -> Markup:
    """Return a prompt as HTML with visible line breaks. Many prompts are only a line break."""
    return visible(text).replace("\n", Markup(f'<span class="control">{RETURN}</span>\n'))


def one_line(text: str, most: int = 60) -> str:
    """Return `text` as one line of plain text, cut to `most` characters, but not escaped."""
    cut = text if len(text) <= most else text[:most] + "\N{HORIZONTAL ELLIPSIS}"
    plain = "".join(f"[{symbol(one)}]" if is_hidden(one) else one for one in cut)
    return plain.replace("\n", RETURN).replace("\t", "\N{RIGHTWARDS ARROW TO BAR}")


def is_hidden(character: str) -> bool:
    """Return whether a browser would hide a character or reorder the text around the character."""
    return character not in SHOWN and unicodedata.category(character) in HIDDEN_CATEGORIES


def symbol(character: str) -> str:
    """Return a character's code point, such as `U+202E`. Few fonts can show control characters."""
    return f"U+{ord(character):04X}"


def shown_number(value: float | None, kind: str) -> str:
    """Format a number according to its kind, a key of `FORMATS`. None becomes a dash."""
    return "\N{EN DASH}" if value is None else format(value, FORMATS[kind])


def playground_of(model: QuantizedModel, vocab: Vocab) -> Playground:
    """Return the model and vocabulary as JSON. Omit byte models and models that are too large."""
    if vocab.unit == "byte":
        reason = "The playground needs a character model, but this is a byte model."
        return Playground(None, reason)
    fields = {
        "characters": [ord(character) for character in vocab.characters],
        "hidden_size": model.hidden_size,
        "layers": [
            {"matrix": _matrix(layer.matrix), "base": _base64(layer.fixed_VG), "unit": layer.unit}
            for layer in model.layers
        ],
        "up": _matrix(model.up) if model.up else None,
        "down": _matrix(model.down) if model.down else None,
        "head": _matrix(model.head),
        "bias": _base64(model.bias_V),
    }
    # In a script element, "<" could begin or end a tag.
    content = json.dumps(fields, separators=(",", ":")).replace("<", "\\u003c")
    if len(content) > MAX_BYTES:
        size = f"{len(content) / 1e6:.1f} MB, which is too large for a page"
        return Playground(None, f"This model takes {size} (at most {MAX_BYTES / 1e6:.0f} MB).")
    return Playground(Markup(content))


def _matrix(matrix: Matrix) -> dict[str, str]:
    return {"weights": _base64(matrix.values_NK), "scale": _base64(matrix.scale_N)}


def _base64(array: np.ndarray) -> str:
    """Encode an array in base64, row by row, with little-endian numbers."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
