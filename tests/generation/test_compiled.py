"""Machine code writes the same texts as torch, to the bit; without numba, torch writes."""

import logging
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from compiled_code import machine_code
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.projects import ROOT
from charlstm.generation import sampler as sampler_module
from charlstm.generation.compiled import kernels, object_code
from charlstm.generation.compiled import stepper as compiled
from charlstm.generation.compiled.object_code import TARGET, Function, keep, kept
from charlstm.generation.compiled.stepper import GROUP, CompiledStepper, compile_for, in_blocks
from charlstm.generation.drawing import FRACTIONS, Rules, uniforms
from charlstm.generation.quantized import QuantizedModel, Stepper, quantize
from charlstm.generation.sampler import Request, Sampler, compiled_stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
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
    Sampling(temperature=1.0),
    Sampling(temperature=0),
    Sampling(temperature=1e-30),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=0.9, top_p=0.8),
    Sampling(temperature=1.2, min_p=0.05),
    Sampling(temperature=0.8, top_k=7, top_p=0.9, min_p=0.01),
    Sampling(temperature=1000000.0),
    Sampling(temperature=1e-310, top_p=0.5),
    Sampling(temperature=0.5, top_p=1e-09),
    Sampling(temperature=2.0, top_k=1),
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


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As on a new machine. Nothing of it is left in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(object_code, "_functions", [])
    return tmp_path / "cache/charlstm"


@settings(max_examples=120)
@given(
    st.sampled_from(SHAPES),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=19),
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(0, 2**32),
)
def test_it_reads_and_writes_as_torch_does(
    shape: ModelShape, rules: list[Sampling], num_threads: int, num_read: int, seed: int
) -> None:
    """Ids, and states to the bit."""
    model, random, num_rows = quantized(shape), np.random.default_rng(seed), len(rules)
    one, two = Stepper(model), CompiledStepper(model, num_threads, machine_code())
    ids_RT = torch.from_numpy(random.integers(0, shape.vocab_size, (num_rows, num_read)))
    uniforms_RT = uniforms(random.integers(0, 2**63, num_rows).astype(np.uint64), seed % 99, 17)
    columns = Rules.of(rules, shape.vocab_size)
    written = []
    for stepper in (one, two):
        read = stepper.read(ids_RT, stepper.zero_state(num_rows))
        ids, after = stepper.write(read, columns, uniforms_RT)
        written.append((*read, stepper.logits(read), ids, *after))
    for expected, found in zip(*written, strict=True):
        assert torch.equal(expected, found)
    assert written[0][3].shape == (num_rows, 17)


def test_its_texts_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stop strings, in a batch, alone and as a stream."""
    model = model_of(ModelShape(len(VOCAB), 6, 24, 2, 12))
    requests = [
        Request(
            "ab"[: 1 + number % 2],
            RULES[number % len(RULES)]._replace(num_chars=150, seed=number, stop=("ab", "jj\n")[: number % 3]),
        )
        for number in range(40)
    ]
    with monkeypatch.context() as patch:
        patch.setattr(sampler_module, "compiled_stepper", lambda model, **_: None)
        expected = Sampler(model, VOCAB).generate(requests)
    machine_code()
    monkeypatch.setattr(CompiledStepper, "most_rows", 40)
    assert isinstance(Sampler(model, VOCAB).engine(40, 1), CompiledStepper)
    sampler = Sampler(model, VOCAB)
    for one, found in zip(expected, sampler.generate(requests), strict=True):
        assert one.text == found.text
        assert torch.equal(one.state.hidden, found.state.hidden) and torch.equal(one.state.cell, found.state.cell)
    assert "".join(sampler.stream(requests[5])) == sampler.generate([requests[5]])[0].text == expected[5].text
    assert 5 < sum(len(one.text) < 150 for one in expected) < 40


@pytest.mark.parametrize("num_columns", [1, 4, 33, 320, 1030])
@pytest.mark.parametrize("add", [kernels.add_by_loop, kernels.add_by_vnni])
def test_products_are_exact(add: object, num_columns: int) -> None:
    if add is kernels.add_by_vnni and not TARGET.has_vnni:
        pytest.skip("this processor has no VNNI")
    random = np.random.default_rng(num_columns)
    values, rows = random.integers(-127, 128, (64, num_columns)), random.integers(-127, 128, (11, num_columns))
    values[:2], rows[:2] = [[127], [-127]], [[127], [-127]]
    padded = np.pad(values.astype(np.int8), ((0, 0), (0, -num_columns % GROUP)))
    laid_out, inputs, surplus_N = padded, np.ones((11, padded.shape[1]), np.int8), np.zeros(64, np.int64)
    inputs[:, :num_columns] = rows
    if add is kernels.add_by_vnni:
        laid_out, surplus_N = in_blocks(padded), 128 * values.sum(1)
        inputs[:, :num_columns] ^= np.int8(-128)
    sums = np.zeros((11, 64), np.int32)

    @numba.njit(_nrt=False)
    def call(values, rows, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        add(values, 64, rows, sums)  # type: ignore[operator]

    call(laid_out.ravel(), inputs, sums)
    np.testing.assert_array_equal(sums - surplus_N, rows @ values.T)


@pytest.mark.parametrize("size", [1, 2, 65, kernels.MAX_RANKED, kernels.MAX_RANKED + 1, 4000])
@pytest.mark.parametrize("sort", [kernels.sort_by_rank, kernels.sort_by_gaps])
def test_values_are_sorted(sort: object, size: int) -> None:
    values = np.random.default_rng(size).integers(0, size, size) / 3  # with equal ones
    found = np.ones(size)

    @numba.njit(_nrt=False)
    def call(values, found):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        sort(values, found)  # type: ignore[operator]

    call(values, found)
    np.testing.assert_array_equal(found, np.sort(values)[::-1])


def test_a_few_characters_are_not_worth_compiling(empty_cache: Path) -> None:
    few = Sampler(model_of(SHAPES[0]), VOCAB)
    assert type(few.engine(1, 9_000)) is type(few.engine(18, 18 * 500)) is type(few.engine(256, 4 * 10**5)) is Stepper
    assert not empty_cache.exists()
    assert type(few.engine(1, 20_000)) is CompiledStepper
    assert type(few.engine(1, 1)) is CompiledStepper  # as it is there now
    assert type(few.engine(0, 0)) is CompiledStepper
    assert type(Sampler(model_of(SHAPES[1]), VOCAB).engine(1, 1)) is CompiledStepper


WRITE = """
import sys
import charlstm
model = charlstm.load(sys.argv[1])
text = model.generate("\\n", num_chars=int(sys.argv[2]))
print(f"numba: {'numba' in sys.modules}")
print(type(model._sampler.engine(1, 1)).__name__)
print(text, end="")
"""


def test_it_is_compiled_once_for_a_machine(tmp_path: Path) -> None:
    """Two processes at once begin without a file, and a third one reads what they wrote: it does not import numba."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    model, vocab = model_of(SHAPES[0]), Vocab.of("".join(map(chr, range(33, 97))) + "\n")
    save_model(tmp_path / "model", model.state_dict(), model.shape, vocab)

    def start(num_chars: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITE, str(tmp_path / "model"), str(num_chars)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    first = [start(20_000), start(20_000)]
    texts = [process.communicate(timeout=300)[0] for process in first]
    assert [process.returncode for process in first] == [0, 0]
    assert texts[0] == texts[1] and texts[0].startswith("numba: True\n")
    (file,) = (tmp_path / "charlstm").iterdir()
    written = file.read_bytes()
    later = start(300).communicate(timeout=300)[0]
    assert later.startswith("numba: False\nCompiledStepper\n")
    assert texts[0].partition("Stepper\n")[2].startswith(later.partition("Stepper\n")[2])
    assert file.read_bytes() == written


def test_a_damaged_file_is_compiled_again(empty_cache: Path) -> None:
    function = Function(compile_for(quantized(SHAPES[0])))
    keep(function)
    (file,) = empty_cache.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
        file.write_bytes(damaged)
        object_code._functions.clear()
        assert kept() is None
    keep(function)
    object_code._functions.clear()
    assert kept() is not None and file.read_bytes() == whole


def test_without_a_folder_of_its_own_it_is_compiled_for_the_process(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cache.parent.write_text("no folder")
    keep(function := Function(compile_for(quantized(SHAPES[0]))))
    assert kept() is function and empty_cache.parent.read_text() == "no folder"
    monkeypatch.setattr(object_code, "user_cache_path", lambda name: Path("~/.cache") / name)  # without a home folder
    object_code._functions.clear()
    assert kept() is None
    keep(function)
    assert kept() is function and not Path("~").exists()


def test_changed_source_has_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in object_code.SOURCE.rglob("*.py"):
        copy = tmp_path / file.relative_to(object_code.SOURCE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(object_code, "SOURCE", tmp_path)
    assert object_code._key.__wrapped__() == object_code._key()
    for name in ("compiled/kernels.py", "drawing.py", "quantized.py"):
        before = object_code._key.__wrapped__()
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        assert object_code._key.__wrapped__() != before


def test_arguments_of_other_types_are_refused() -> None:
    """Machine code would read and write beside them."""
    with pytest.raises(TypeError, match="expected f1f1f1d1"):
        machine_code()(np.zeros(3))


def test_without_numba_torch_writes(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("charlstm.generation.compiled")]:
        monkeypatch.delitem(sys.modules, name)
    for missing in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, missing, None)
        caplog.clear()
        with caplog.at_level(logging.DEBUG, sampler_module.__name__):
            assert type(Sampler(model_of(SHAPES[0]), VOCAB).engine(1, 10**6)) is Stepper
        records = [record for record in caplog.records if record.name == sampler_module.__name__]
        assert {record.levelno for record in records} == {logging.DEBUG} and "ModuleNotFoundError" in caplog.text


def test_wrong_machine_code_is_not_used(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "FRACTIONS", FRACTIONS[::-1].copy())
    with caplog.at_level(logging.DEBUG, sampler_module.__name__):
        assert compiled_stepper(quantized(SHAPES[0])) is None
    assert "gives other texts" in caplog.text and not empty_cache.exists()


def test_ids_that_do_not_exist_are_refused() -> None:
    stepper = CompiledStepper(quantized(SHAPES[0]), 1, machine_code())
    for index in (-1, 65):
        with pytest.raises(IndexError, match="below 65"):
            stepper.read(torch.tensor([[3, index]]), stepper.zero_state(1))


GENERIC = """
import sys
from llvmlite import binding
binding.get_host_cpu_name, binding.get_host_cpu_features = lambda: "generic", binding.FeatureMap
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_older_processors_write_the_same() -> None:
    """All of this file again, for a processor of which nothing is known."""
    if TARGET.name == "generic":
        assert not TARGET.has_vnni
        return
    command = [sys.executable, "-c", GENERIC, __file__, "-m", "", "-p", "no:cacheprovider"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
