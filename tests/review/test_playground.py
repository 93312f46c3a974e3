"""The page has the complete model in few bytes, and no part of it can do harm."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from charlstm.generation.quantized import quantize
from charlstm.model.shape import ModelShape
from charlstm.review import page as module
from charlstm.review.page import is_hidden, page_of, playground_of
from tests.support.playgrounds import ODD, Case, case, default_case, odd_case
from tests.support.reviews import review, sample

MAX_DEFAULT_BYTES = 1_500_000
SMALL = case(ModelShape(7, 5, 10, 2, 13), "abcdefg")


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


def page(one: Case, prompt: str = "x") -> str:
    playground = playground_of(quantize(one.model), one.vocab)
    return page_of(review([sample("x", prompt)]), playground=playground)


def assert_holds(found: dict[str, str], matrix: tuple[np.ndarray, np.ndarray] | None) -> None:
    assert matrix is not None
    assert array(found["weights"], "i1").tobytes() == matrix[0].tobytes()
    assert array(found["scale"], "<f4").tobytes() == matrix[1].tobytes()


def test_the_page_has_the_whole_model() -> None:
    model = quantize(SMALL.model)
    found = json.loads(playground_of(model, SMALL.vocab).model or "")
    assert found["characters"] == [ord(one) for one in "abcdefg"] and found["hidden_size"] == 10
    for layer, ours in zip(model.layers, found["layers"], strict=True):
        assert_holds(ours["matrix"], layer.matrix)
        base_VG = array(ours["base"], "<i2").reshape(layer.fixed_VG.shape)
        assert ours["unit"] == layer.unit and np.array_equal(base_VG, layer.fixed_VG)
    for name in ("up", "down", "head"):
        assert_holds(found[name], getattr(model, name))
    assert array(found["bias"], "<f4").tobytes() == model.bias_V.tobytes()


def test_a_page_of_the_default_model_is_small_and_the_same_again() -> None:
    one = default_case()
    made = playground_of(quantize(one.model), one.vocab)
    found = page(one, "a")
    assert made.model is not None and len(made.model) <= MAX_DEFAULT_BYTES
    assert len(found.encode()) <= 2_000_000
    assert found == page(default_case(), "a")


def test_what_a_hostile_vocabulary_has_is_nowhere_in_the_page() -> None:
    found = page(odd_case(), ODD)
    assert not [one for one in set(found) if is_hidden(one)]
    element = r'<script type="application/json" id="playground-model">(.*?)</script>'
    (data,) = re.findall(element, found)
    assert data.isascii() and "<" not in data
    assert "".join(map(chr, json.loads(data)["characters"])) == ODD


def test_only_our_scripts_may_run_and_only_as_they_are() -> None:
    found = page(SMALL)
    (policy,) = re.findall(r"script-src ([^;]*);", found)
    scripts = re.findall(r"<script>(.*?)</script>", found, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(scripts) == 4 and policy.split() == [f"'sha256-{one}'" for one in hashes]


def test_a_model_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 500)
    found = page(SMALL)
    assert "This model takes 0.0 MB, which is too large for a page" in found
    assert found.count("<script") == 1 and "playground-model" not in found
