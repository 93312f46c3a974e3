"""Models on a page, and the results of test scripts in that page."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import Stepper, packed
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.review.page import page_of, playground_of
from charlstm.text.vocabulary import Vocab
from tests.support.browser import dom_of
from tests.support.compiled_parts import predict
from tests.support.models import random_model
from tests.support.reviews import HOSTILE, review, sample

SHAKESPEARE = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Surrogate pairs of UTF-16, combining and bidirectional characters, and ends of elements.
ODD = "".join(sorted(set(f"{HOSTILE}\U0001f600\U00020000\u0301\u0307\u200d\u202e\n\t ab'\"\\`<&")))

Json = Any


class Case(NamedTuple):
    """Model whose large weights saturate its gates, and its vocabulary."""

    model: CharLSTM
    vocab: Vocab


def case(shape: ModelShape, characters: str, factor: float = 3.0) -> Case:
    """Return a model whose random weights are `factor` times as large as a new model's."""
    return Case(random_model(shape, "fused", factor), Vocab(characters))


def default_case() -> Case:
    """Return a model with the default recipe's shape."""
    return case(ModelShape(len(SHAKESPEARE), 128, 320, 1, 320), SHAKESPEARE)


def odd_case() -> Case:
    """Return a model with three layers, odd sizes, one-hot inputs and a hostile vocabulary."""
    return case(ModelShape(len(ODD), 0, 21, 3, 0), ODD)


def page_with(one: Case, script: str = "", prompt: str = "a") -> str:
    """Return the page with `script` added behind its own scripts and allowed by its policy."""
    playground = playground_of(quantize(one.model), one.vocab)
    text = page_of(review([sample("x", prompt)]), playground=playground)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = text.replace("script-src ", f"script-src 'sha256-{digest}' ")
    return allowed.replace("</body>", f"<script>{script}</script></body>")


def found_by(page: str, folder: Path, milliseconds: int | None = 2000) -> Json:
    """Return the value that the page's script passed to `found(...)`, see FOUND."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8", newline="")
    dom = dom_of(file.as_uri(), folder, milliseconds)
    (text,) = re.findall(r'<pre id="found">([0-9a-zA-Z+/=]*)</pre>', dom)
    return json.loads(base64.b64decode(text))


# A function for test scripts. It writes any value to the document, as base64 of ASCII.
FOUND = """
function found(value) {
  const made = document.createElement("pre");
  const escaped = (one) => "\\\\u" + one.charCodeAt(0).toString(16).padStart(4, "0");
  const json = JSON.stringify(value).replace(/[\\u0080-\\uffff]/g, escaped);
  made.id = "found";
  made.textContent = btoa(json);
  document.body.append(made);
}
"""


def logits_of(one: Case, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the sampler's logits (T, V) after each of `ids` (T)."""
    model = quantize(one.model)
    stepper, arrays = Stepper(model), packed(model)
    state, logits = stepper.zero_state(1), []
    for index in ids:
        state = stepper.read(index[None, None], state)
        logits.append(predict(arrays, state.hidden_RLH))
    return np.concatenate(logits)
