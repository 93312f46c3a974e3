"""The playground of the review page, in which a reader can generate texts with the model.

The page contains the model as 8-bit integers in base64. `templates/playground.js` reads them. With
`playground_draw.js`, it computes exactly what `charlstm/generation/` computes.
"""

import base64
import json
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from charlstm.generation.quantized import Matrix, QuantizedModel
from charlstm.text.vocabulary import Vocab

MAX_BYTES = 8_000_000  # per model in a page


class Playground(NamedTuple):
    """A model as ASCII text that is safe in HTML, or the reason why the page has no model."""

    model: Markup | None
    reason: str = ""


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
