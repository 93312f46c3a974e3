"""Machine code writes the same texts as torch, to the bit; without numba, torch writes."""

import logging
import os
import subprocess
import sys
from functools import cache

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.generation import engines
from charlstm.generation.batch import Request
from charlstm.generation.compiled import drawing, products
from charlstm.generation.compiled.stepper import CompiledStepper
from charlstm.generation.compiled.vnni import GROUP
from charlstm.generation.drawing import FRACTIONS, Rules
from charlstm.generation.engines import Engines, compiled_stepper
from charlstm.generation.quantized import QuantizedModel, quantize
from charlstm.generation.rule import SamplingRule
from charlstm.generation.sampler import Sampler
from charlstm.generation.stepper import Stepper
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.text.vocabulary import Vocab

SHAPES = [
    ModelShape(65, 16, 64, 1, 64),
    ModelShape(2, 3, 5, 1, 0),
    ModelShape(300, 7, 33, 2, 17),
    ModelShape(65, 0, 47, 3, 100),
    ModelShape(11, 6, 64, 2, 0),
    ModelShape(97, 16, 130, 1, 7),
]
RULES = [
    SamplingRule(1.0),
    SamplingRule(0),
    SamplingRule(1e-30),
    SamplingRule(0.7, top_k=3),
    SamplingRule(0.9, top_p=0.8),
    SamplingRule(1.2, min_p=0.05),
    SamplingRule(0.8, 7, 0.9, 0.01),
    SamplingRule(1e6),
    SamplingRule(1e-310, top_p=0.5),
    SamplingRule(0.5, top_p=1e-9),
    SamplingRule(2.0, top_k=1),
]
VOCAB = Vocab.of("abcdefghij\n")


def model_of(shape: ModelShape, seed: int = 0) -> CharLSTM:
    torch.manual_seed(seed)
    model = CharLSTM(shape, "gates").eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(3)
    return model


@cache
def quantized(shape: ModelShape) -> QuantizedModel:
    return quantize(model_of(shape))


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=19),
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(0, 2**32),
)
def test_it_reads_and_writes_as_torch_does(
    shape: ModelShape, rules: list[SamplingRule], num_threads: int, num_read: int, seed: int
) -> None:
    """Ids, and states to the bit."""
    model, random, num_rows = quantized(shape), np.random.default_rng(seed), len(rules)
    one, two = Stepper(model), CompiledStepper(model, num_threads)
    ids_RT = torch.from_numpy(random.integers(0, shape.vocab_size, (num_rows, num_read)))
    keys_R = random.integers(0, 2**63, num_rows).astype(np.uint64)
    columns = Rules.of(rules, shape.vocab_size)
    written = []
    for stepper in (one, two):
        read = stepper.read(ids_RT, stepper.zero_state(num_rows))
        ids, after = stepper.write(read, columns, keys_R, seed % 99, 17)
        written.append((*read, stepper.logits(read), ids, *after))
    for expected, found in zip(*written, strict=True):
        assert torch.equal(expected, found)
    assert written[0][3].shape == (num_rows, 17)


def test_its_texts_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stop strings, in a batch, alone and as a stream."""
    model = model_of(ModelShape(len(VOCAB), 6, 24, 2, 12))
    requests = [
        Request("ab"[: 1 + number % 2], 150, RULES[number % len(RULES)], number, stop=("ab", "jj\n")[: number % 3])
        for number in range(40)
    ]
    expected = Sampler(model, VOCAB).generate(requests)
    monkeypatch.setattr(engines, "COMPILE_SECONDS", 0)
    monkeypatch.setattr(CompiledStepper, "most_rows", 40)
    assert isinstance(Engines(quantize(model)).best(40, 1), CompiledStepper)
    sampler = Sampler(model, VOCAB)
    for one, found in zip(expected, sampler.generate(requests), strict=True):
        assert one.text == found.text
        assert torch.equal(one.state.hidden, found.state.hidden) and torch.equal(one.state.cell, found.state.cell)
    assert "".join(sampler.stream(requests[5])) == sampler.generate([requests[5]])[0].text == expected[5].text
    assert 5 < sum(len(one.text) < 150 for one in expected) < 40


@pytest.mark.parametrize("num_columns", [1, 4, 33, 320, 1030])
@pytest.mark.parametrize("add", [products.add_by_loop, products.add_by_vnni])
def test_products_are_exact(add: object, num_columns: int) -> None:
    if add is products.add_by_vnni and not products.HAS_VNNI:
        pytest.skip("this processor has no VNNI")
    random = np.random.default_rng(num_columns)
    values, rows = random.integers(-127, 128, (64, num_columns)), random.integers(-127, 128, (11, num_columns))
    values[:2], rows[:2] = [[127], [-127]], [[127], [-127]]
    padded = np.pad(values.astype(np.int8), ((0, 0), (0, -num_columns % GROUP)))
    laid_out, inputs, surplus_N = padded, np.ones((11, padded.shape[1]), np.int8), np.zeros(64, np.int64)
    inputs[:, :num_columns] = rows
    if add is products.add_by_vnni:
        laid_out, surplus_N = products.in_blocks(padded), 128 * values.sum(1)
        inputs[:, :num_columns] ^= np.int8(-128)
    sums = np.zeros((11, 64), np.int32)

    @numba.njit(_nrt=False)
    def call(values, rows, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        add(values, 64, rows, sums)  # type: ignore[operator]

    call(laid_out.ravel(), inputs, sums)
    np.testing.assert_array_equal(sums - surplus_N, rows @ values.T)


@pytest.mark.parametrize("size", [1, 2, 65, drawing.MAX_RANKED, drawing.MAX_RANKED + 1, 4000])
@pytest.mark.parametrize("sort", [drawing.sort_by_rank, drawing.sort_by_gaps])
def test_values_are_sorted(sort: object, size: int) -> None:
    values = np.random.default_rng(size).integers(0, size, size) / 3  # with equal ones
    found = np.ones(size)

    @numba.njit(_nrt=False)
    def call(values, found):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        sort(values, found)  # type: ignore[operator]

    call(values, found)
    np.testing.assert_array_equal(found, np.sort(values)[::-1])


def test_a_few_characters_are_not_worth_compiling() -> None:
    few = Engines(quantized(SHAPES[0]))
    assert type(few.best(1, 20_000)) is type(few.best(18, 18 * 500)) is type(few.best(256, 10**6)) is Stepper
    assert type(few.best(1, 50_000)) is CompiledStepper
    assert type(few.best(1, 1)) is CompiledStepper  # as it is there now
    assert type(few.best(0, 0)) is CompiledStepper


def test_without_numba_torch_writes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in [name for name in sys.modules if name.startswith("charlstm.generation.compiled")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    with caplog.at_level(logging.DEBUG, engines.__name__):
        assert type(Engines(quantized(SHAPES[0])).best(1, 10**6)) is Stepper
    (record,) = [record for record in caplog.records if record.name == engines.__name__]
    assert record.levelno == logging.DEBUG and "ModuleNotFoundError" in record.message


def test_wrong_machine_code_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert compiled_stepper(quantized(SHAPES[0])) is not None
    monkeypatch.setattr(drawing, "FRACTIONS", FRACTIONS[::-1].copy())
    with caplog.at_level(logging.DEBUG, engines.__name__):
        assert compiled_stepper(quantized(SHAPES[0])) is None
    assert "gives other texts" in caplog.text


def test_ids_that_do_not_exist_are_refused() -> None:
    stepper = CompiledStepper(quantized(SHAPES[0]), 1)
    for index in (-1, 65):
        with pytest.raises(IndexError, match="below 65"):
            stepper.read(torch.tensor([[3, index]]), stepper.zero_state(1))


@pytest.mark.slow
def test_older_processors_write_the_same() -> None:
    """All of this file again, for a processor of which nothing is known."""
    if os.environ.get("NUMBA_CPU_NAME") == "generic":
        assert not products.HAS_VNNI
        return
    command = [sys.executable, "-m", "pytest", __file__, "-m", "", "-p", "no:cacheprovider"]
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
