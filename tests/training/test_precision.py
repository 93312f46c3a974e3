"""bf16 is asked of the device that trains, and of no other; where there is none, it is said in one line."""

import os
import subprocess
import sys

import pytest
import torch

from charlstm.training.precision import multiplies_bf16
from charlstm.training.processes import Processes
from pipeline.hardware import is_kept_on_cpu
from tests.support.projects import ROOT


def test_training_on_the_cpu_beside_a_gpu_does_not_ask_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`accelerate launch --cpu` sets this variable."""
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
    multiplies_bf16("cuda")
    assert len(asked) == 1


ELSEWHERE = """
import os, torch
from charlstm.errors import TrainingError
from charlstm.training.precision import choose_precision
from pipeline.hardware import use_reproducible_kernels
print(*choose_precision("auto", "cpu"), sep=": ")
try:
    choose_precision("bf16", "cpu")
except TrainingError as error:
    print(error)
torch.cuda.is_available = lambda: True  # as on a machine with a GPU; nothing here asks it anything
use_reproducible_kernels()
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
print(os.environ["CUBLAS_WORKSPACE_CONFIG"], cudnn.rnn.fp32_precision, cudnn.conv.fp32_precision, matmul.fp32_precision)
"""


def test_a_processor_without_bf16_has_fp32_or_an_error_and_a_gpu_a_workspace_with_which_rnns_repeat_themselves() -> (
    None
):
    """`tests/whole/test_starts.py` trains on such a processor."""
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-W", "error", "-c", ELSEWHERE]
    done = subprocess.run(
        command, cwd=ROOT, env=without, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "fp32: this processor multiplies no bf16",
        "train.precision is bf16, and this processor computes no LSTM in it: set auto or fp32",
        ":16:8 ieee ieee ieee",
    ], done.stderr
