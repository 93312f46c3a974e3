"""The model as the page has it: all of it, in few bytes, harmless, and with tables that no browser can get wrong."""

import base64
import hashlib
import json
import math
import re

import numpy as np
import pytest
import torch
from playgrounds import ODD, Case, case, default_case, logits_of, odd_case
from reviews import review, sample

from charlstm.evaluation import protocols
from charlstm.generation.kernels import STEPS_PER_UNIT
from charlstm.generation.quantized import FINEST, TABLE_GATES, quantize
from charlstm.model.layers import stacked
from charlstm.model.loss import exact_loss
from charlstm.model.shape import ModelShape
from charlstm.report import playground
from charlstm.report.collect import QuantizedLanguageModel
from charlstm.report.comparison import comparison_of
from charlstm.report.page import MAX_PAGE_BYTES, is_hidden, page_of
from charlstm.report.playground import playground_of, start_of
from charlstm.text.encoded import EncodedText

MAX_DEFAULT_BYTES = 1_500_000
SMALL = case(ModelShape(7, 5, 10, 2, 13), "abcdefg")


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


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


@pytest.mark.parametrize("factor", [0, 1e-4, 1, 10, 1e4])
def test_sixteen_bits_lose_nothing_that_the_tables_would_tell_apart(factor: float) -> None:
    one = case(ModelShape(7, 5, 10, 1, 0), "abcdefg", factor)
    (layer,) = quantize(one.model).layers
    weights = {name: weight.double() for name, weight in one.model.state_dict().items()}
    from_input, bias = (stacked(weights, 0, f"from_input.{part}", TABLE_GATES) for part in ("weight", "bias"))
    exact_VG = weights["embedding.weight"] @ from_input.t() + bias
    error = np.abs(layer.fixed_VG * layer.unit - (exact_VG * STEPS_PER_UNIT).numpy()).max()
    assert math.frexp(layer.unit)[0] == 0.5 and error <= layer.unit / 2
    largest = exact_VG.abs().max().item() * STEPS_PER_UNIT
    assert layer.unit == FINEST if largest <= 127 else largest < 2**15 * layer.unit <= 2 * largest


def test_a_page_of_the_default_model_is_small_and_the_same_again() -> None:
    one = default_case()
    made = playground_of(quantize(one.model), one.vocab)
    page = page_of(review([sample("x", "a")]), playground=made)
    assert made.model is not None and len(made.model) <= MAX_DEFAULT_BYTES
    assert len(page.encode()) <= MAX_PAGE_BYTES
    assert page == page_of(
        review([sample("x", "a")]), playground=playground_of(quantize(default_case().model), one.vocab)
    )


def test_texts_are_not_cut_for_the_model() -> None:
    one = default_case()
    samples = [sample("x" * 600_000), sample("y" * 600_000)]
    made = playground_of(quantize(one.model), one.vocab)
    assert "x" * 600_000 in page_of(review(samples), playground=made)
    page = page_of(review([*samples, *samples]), playground=made)
    assert made.model is not None and len(page.encode()) <= MAX_PAGE_BYTES + len(made.model)


def test_what_a_hostile_vocabulary_has_is_nowhere_in_the_page() -> None:
    one = odd_case()
    page = page_of(review([sample("x", ODD)]), playground=playground_of(quantize(one.model), one.vocab))
    assert not [one for one in set(page) if is_hidden(one)]
    (data,) = re.findall(r'<script type="application/json" id="playground-model">(.*?)</script>', page)
    assert data.isascii() and "<" not in data
    assert "".join(map(chr, json.loads(data)["characters"])) == ODD


def test_only_our_scripts_may_run_and_only_as_they_are() -> None:
    page = page_of(review([sample("x")]), playground=playground_of(quantize(SMALL.model), SMALL.vocab))
    (policy,) = re.findall(r"script-src ([^;]*);", page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(scripts) == 4 and policy.split() == [f"'sha256-{one}'" for one in hashes]


def test_a_model_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantize(SMALL.model)
    monkeypatch.setattr(playground, "MAX_BYTES", 500)
    made = playground_of(model, SMALL.vocab)
    page = page_of(review([sample("x")]), playground=made)
    assert made.model is None
    assert "This model takes 0.0 MB, which is too large for a page" in page
    assert page.count("<script") == 1 and "playground-model" not in page


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ({}, "8-bit weights cost 0.0100 nats a character: 1.50000 becomes 1.51000 on all 499 characters"),
        ({"nats_per_char": 1.49999}, "cost less than 0.0001 nats a character: 1.50000 becomes 1.49999 on all 499"),
        ({"num_chars": 400}, "on the first 400 characters of the validation part (<code>windowed_256</code>)."),
        ({"nats_per_char": None}, "The model has no finite loss."),
    ],
)
def test_the_page_says_what_eight_bits_cost(loss: dict[str, float | None], sentence: str) -> None:
    plain = review([sample("x")])
    document = plain.model_copy(update={"eight_bits": plain.eight_bits.model_copy(update=loss)})
    assert sentence in page_of(document, playground=playground_of(quantize(SMALL.model), SMALL.vocab))


def test_without_scripts_a_sentence_says_so() -> None:
    page = page_of(review([sample("x")]), playground=playground_of(quantize(SMALL.model), SMALL.vocab))
    assert '<p class="no-scripts">' in page and '<form class="play" hidden' in page
    assert '<div class="result" hidden>' in page


def test_pages_without_a_model_have_no_playground() -> None:
    for page in (page_of(review([sample("x")])), comparison_of([("a", review([sample("x")]))])):
        assert "layground" not in page and page.count("<script") == 1 and page.count("'sha256-") == 1


def test_the_form_begins_with_a_sample_that_can_be_seen() -> None:
    samples = [sample("x", "\n"), sample("x", "a", temperature=0.5), sample("x", "b", temperature=0.9, seed=5)]
    assert start_of(samples) == samples[2] and start_of([]) is None
    page = page_of(review(samples[:1]), playground=playground_of(quantize(SMALL.model), SMALL.vocab))
    assert 'data-start="&#34;\\n&#34;"' in page and 'value="0.98"' in page


@pytest.mark.parametrize("one", [SMALL, odd_case()])
def test_a_quantized_model_is_scored_like_any_other(one: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "STATEFUL_CHUNK", 15)
    ids = np.random.default_rng(3).integers(0, len(one.vocab), 41)
    logits_1TV, targets_1T = torch.from_numpy(logits_of(one, ids[:-1]))[None], torch.from_numpy(ids[1:])[None]
    found = protocols.stateful(QuantizedLanguageModel(one.model), EncodedText(ids.astype(np.uint16)))
    assert found.num_chars == 40 and found.nats == pytest.approx(exact_loss(logits_1TV, targets_1T).nats, rel=1e-6)


@pytest.mark.parametrize(("min_p", "shown"), [(0.05, 'value="0.05"'), (0.0, 'value=""')])
def test_it_begins_with_the_settings_of_a_sample(min_p: float, shown: str) -> None:
    document = review([sample("x", "y")], parameters={"sample.min_p": min_p})
    page = page_of(document, playground=playground_of(quantize(SMALL.model), SMALL.vocab))
    assert re.search(rf'name="min-p"[^>]* {shown}', page)
