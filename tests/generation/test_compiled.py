"""Compiled loops equal the equations bit by bit, in any batch, with any threads or process."""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.generation.kernels import LEVELS, MAX_EXACT_COLUMNS, Rules
from charlstm.generation.quantized import Layer, Matrix, QuantizedModel, quantize
from charlstm.generation.sampler import uniforms
from charlstm.generation.stepper import Stepper, packed
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab
from tests.support import reference_sampler as reference
from tests.support.compiled_parts import multiply, predict
from tests.support.models import random_model
from tests.support.projects import ROOT
from tests.support.reference_sampler import RULES

SHAPES = [
    ModelShape(65, 16, 64, 1, 64),
    ModelShape(2, 3, 5, 1, 0),
    ModelShape(300, 7, 33, 2, 17),
    ModelShape(65, 0, 47, 3, 100),
    ModelShape(11, 6, 64, 2, 0),
    ModelShape(97, 16, 130, 1, 7),
]


@cache
def quantized(shape: ModelShape) -> QuantizedModel:
    return quantize(random_model(shape, factor=3))


@settings(max_examples=120)
@given(
    st.sampled_from(SHAPES),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=19),
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(0, 2**32),
)
def test_it_reads_and_writes_as_the_equations_say(
    shape: ModelShape, rules: list[Sampling], num_threads: int, num_read: int, seed: int
) -> None:
    model = quantized(shape)
    random = np.random.default_rng(seed)
    num_rows = len(rules)
    fast = Stepper(model, num_threads)
    ids_RT = random.integers(0, shape.vocab_size, (num_rows, num_read))
    uniforms_RT = uniforms(random.integers(0, 2**63, num_rows).astype(np.uint64), seed % 99, 17)
    columns = Rules.of(rules, shape.vocab_size)
    zero = fast.zero_state(num_rows)
    read = fast.read(ids_RT, zero)
    expected = reference.read(model, ids_RT, zero)
    ids, after = fast.write(read, columns, uniforms_RT)
    expected_ids, expected_after = reference.write(model, expected, columns, uniforms_RT)
    logits_RV = predict(packed(model), after.hidden_RLH)
    pairs = zip(
        (*read, ids, *after, logits_RV),
        (*expected, expected_ids, *expected_after, reference.logits(model, expected_after)),
        strict=True,
    )
    for one, two in pairs:
        np.testing.assert_array_equal(one, two)
    assert ids.shape == (num_rows, 17)


@pytest.mark.parametrize(
    "num_columns", [1, 4, 33, 320, MAX_EXACT_COLUMNS, MAX_EXACT_COLUMNS + 1, 3000]
)
def test_products_are_exact(num_columns: int) -> None:
    random = np.random.default_rng(num_columns)
    values = random.integers(-127, 128, (65, num_columns))
    rows = random.integers(-127, 128, (11, num_columns))
    # The largest sums of both signs.
    for matrix in (values, rows):
        matrix[:2] = [[127], [-127]]
    none = Matrix(np.zeros((4, 1), np.int8), np.ones(4, np.float32))
    head = Matrix(values.astype(np.int8), np.ones(65, np.float32))
    layer = Layer(none, np.zeros((65, 4), np.int16), 1.0)
    model = packed(QuantizedModel([layer], None, None, head, np.zeros(65, np.float32), 1))
    inputs_RQ = np.zeros((11, model.by_row_MPQ.shape[2]), np.int16)
    inputs_RQ[:, :num_columns] = rows
    exact = rows @ values.T
    np.testing.assert_array_equal(multiply(model, 1, inputs_RQ), exact.astype(np.float32))
    assert np.abs(exact).max() == LEVELS**2 * num_columns


WRITE = """
import sys
import charlstm
model = charlstm.load(sys.argv[1])
print("".join(model.generate("!", num_chars=40, num_texts=9, seed=3)), end="")
"""
SHA256 = "76b18cd5ede190a0"  # torch wrote the same text of this model


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "charlstm", folder / "charlstm", ignore=ignored)
    model = random_model(SHAPES[0], factor=3)
    vocab = Vocab.of("".join(map(chr, range(33, 97))) + "\n")
    save_model(folder / "model", model.state_dict(), model.shape, vocab)
    return folder


def written(folder: Path, **variables: str) -> subprocess.Popen[str]:
    path = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, folder / "model"],
        cwd=folder,
        env={**os.environ, **path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features"), [("", ""), ("haswell", "+avx2,+fma"), ("generic", "")]
)
def test_every_start_writes_the_same(installed: Path, name: str, features: str) -> None:
    """Two processes compile at the same time, and a third one finds numba's cache.

    The processors are this machine's, one without VNNI, and an unknown one.
    """
    variables = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features} if name else {}
    first = [written(installed, **variables), written(installed, **variables)]
    outputs = [process.communicate(timeout=300) for process in first]
    kept = sorted((installed / "charlstm/generation/__pycache__").glob("kernels.*"))
    before = [file.stat().st_mtime_ns for file in kept]
    later = written(installed, **variables)
    outputs.append(later.communicate(timeout=300))
    assert [process.returncode for process in (*first, later)] == [0, 0, 0], outputs
    assert {hashlib.sha256(text.encode()).hexdigest()[:16] for text, _ in outputs} == {SHA256}
    assert {errors for _, errors in outputs} == {""}
    assert kept and [file.stat().st_mtime_ns for file in kept] == before
