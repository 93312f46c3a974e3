"""Precision is chosen by the training device alone; a missing bf16 is one line."""

import sys

import pytest
import torch

from charlstm.training.processes import Processes, choose_precision, multiplies_bf16
from pipeline.hardware import is_kept_on_cpu
from tests.support.projects import captured


def test_training_on_the_cpu_beside_a_gpu_does_not_ask_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`accelerate launch --cpu` sets the variable."""
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: asked.append(options))
    assert not is_kept_on_cpu()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    processes = Processes("auto", on_cpu=is_kept_on_cpu())
    assert processes.device.type == "cpu"
    assert processes.is_bf16 == multiplies_bf16("cpu") and not asked
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)
    multiplies_bf16("cuda")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("version", "expected"), [(91200, "fp32"), (91300, "bf16"), (None, "fp32")]
)
def test_auto_needs_a_cudnn_that_computes_an_lstm_in_bf16(
    monkeypatch: pytest.MonkeyPatch, version: int | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: version)
    chosen = choose_precision("auto", "cuda")
    assert chosen.name == expected
    assert ("9.13" in chosen.reason) == (expected == "fp32")


ELSEWHERE = """
import os, torch
from charlstm.errors import TrainingError
from charlstm.training.processes import choose_precision
from pipeline.hardware import use_reproducible_kernels
print(*choose_precision("auto", "cpu"), sep=": ")
try:
    choose_precision("bf16", "cpu")
except TrainingError as error:
    print(error)
torch.cuda.is_available = lambda: True  # as with a GPU
use_reproducible_kernels()
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
print(os.environ["CUBLAS_WORKSPACE_CONFIG"], cudnn.rnn.fp32_precision)
print(matmul.fp32_precision)
"""


def test_a_processor_without_bf16_computes_fp32_and_kernels_of_a_gpu_are_reproducible() -> None:
    """`tests/whole/test_starts.py` trains on such a processor."""
    command = [sys.executable, "-W", "error", "-c", ELSEWHERE]
    done = captured(command, ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    assert done.stdout.splitlines() == [
        "fp32: this processor cannot multiply bf16",
        "train.precision is bf16, but this processor cannot compute an LSTM in bf16; set "
        "train.precision to 'auto' or 'fp32'",
        ":16:8 ieee",
        "ieee",
    ], done.stderr
