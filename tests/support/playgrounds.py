"""Models on a page, for tests, and what a script in that page computes with them."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.report.page import page_of
from charlstm.report.playground import playground_of
from charlstm.text.vocabulary import Vocab
from tests.support.browser import dom_of
from tests.support.reviews import HOSTILE, review, sample

SHAKESPEARE = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Surrogate pairs in UTF-16, what combines, turns, hides, or ends an element.
ODD = "".join(sorted(set(f"{HOSTILE}\U0001f600\U00020000\u0301\u0307\u200d\u202e\n\t ab'\"\\`<&")))

Json = Any


class Case(NamedTuple):
    """A model with weights that drive gates to their ends, and its vocabulary."""

    model: CharLSTM
    vocab: Vocab


def case(shape: ModelShape, characters: str, factor: float = 3.0) -> Case:
    """A model with random weights, `factor` times as large as a fresh one's."""
    torch.manual_seed(7)
    model = CharLSTM(shape, "fused").eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name == "feed_forward.down.weight":
            weight.normal_(0, 0.2)
        elif name != "embedding.weight":
            weight.mul_(factor)
    return Case(model, Vocab(characters))


def default_case() -> Case:
    """Of the default recipe's shape."""
    return case(ModelShape(len(SHAKESPEARE), 128, 320, 1, 320), SHAKESPEARE)


def odd_case() -> Case:
    """Three layers, sizes that no power of 2 divides, one-hot, no block, and a hostile vocabulary."""
    return case(ModelShape(len(ODD), 0, 21, 3, 0), ODD)


def page_with(one: Case, script: str = "", prompt: str = "a") -> str:
    """The page with `script` behind its own ones, which its policy lets run; nothing else of the policy changes."""
    text = page_of(
        review([sample("x", prompt)]), playground=playground_of(quantize(one.model), one.vocab)
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return text.replace("script-src ", f"script-src 'sha256-{digest}' ").replace(
        "</body>", f"<script>{script}</script></body>"
    )


def found_by(page: str, folder: Path, milliseconds: int | None = 2000) -> Json:
    """What the page's script gave to `found(...)`, see FOUND."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8", newline="")
    dom = dom_of(file, milliseconds)
    (text,) = re.findall(r'<pre id="found">([0-9a-zA-Z+/=]*)</pre>', dom)
    return json.loads(base64.b64decode(text))


# A function for scripts of tests: it leaves any value in the document, as base64 of ASCII.
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
    """The sampler's logits (T, V) after each of `ids` (T)."""
    stepper = Stepper(quantize(one.model))
    logits_1TV, _ = stepper.score(ids[None], stepper.zero_state(1))
    logits_TV: NDArray[np.float32] = logits_1TV[0]
    return logits_TV
