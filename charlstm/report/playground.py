"""The model inside the review page, with which a reader can write texts.

It is 8-bit integers in base64. `templates/playground.js` reads it, and with `playground_draw.js` computes what
`charlstm/generation/` does, to the bit.
"""

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from charlstm.generation.quantized import Matrix, QuantizedModel
from charlstm.report.document import Sample
from charlstm.text.vocabulary import Vocab

MAX_BYTES = 8_000_000  # of a model on a page


class Playground(NamedTuple):
    """A model as ASCII that no HTML parser takes for more than text; None where there is a `reason` to leave it out."""

    model: Markup | None
    reason: str = ""


def start_of(samples: Sequence[Sample]) -> Sample | None:
    """The sample whose settings the form has at first: best one whose prompt can be seen, of a middle temperature."""
    return min(
        samples, key=lambda one: (not one.prompt.strip(), abs(one.temperature - 0.8)), default=None
    )


def playground_of(model: QuantizedModel, vocab: Vocab) -> Playground:
    """The model with its vocabulary as JSON."""
    if vocab.unit == "byte":
        return Playground(
            None, "The playground is for models of characters, and this is one of bytes."
        )
    arrays: list[np.ndarray] = [array for matrix in model.matrices for array in matrix]
    arrays += [*(layer.fixed_VG for layer in model.layers), model.bias_V]
    num_bytes = sum(-(-array.nbytes // 3) * 4 for array in arrays)  # in base64
    if num_bytes > MAX_BYTES:
        size, most = f"{num_bytes / 1e6:.1f} MB", f"{MAX_BYTES / 1e6:.0f} MB"
        return Playground(
            None, f"This model takes {size}, which is too large for a page (at most {most})."
        )
    fields = {
        "characters": [ord(one) for one in vocab.characters],
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
    # JSON that may stand in a script element: ASCII, and no tag begins or ends in it.
    return Playground(Markup(json.dumps(fields, separators=(",", ":")).replace("<", "\\u003c")))


def _matrix(matrix: Matrix) -> dict[str, str]:
    return {"weights": _base64(matrix.values_NK), "scale": _base64(matrix.scale_N)}


def _base64(array: np.ndarray) -> str:
    """An array in base64: little-endian, row by row."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
