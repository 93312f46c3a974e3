"""bf16 is asked of the device that trains, and of no other; where there is none, it is said in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stages import run_stage

from benchmarks.projects import ROOT, write_params
from charlstm.training.processes import Processes, multiplies_bf16
from pipeline.hardware import is_kept_on_cpu


def test_training_on_the_cpu_beside_a_gpu_does_not_ask_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
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


REPRODUCIBLE = """
import os, torch
torch.cuda.is_available = lambda: True  # as on a machine with a GPU; nothing here asks it anything
from pipeline.hardware import use_reproducible_kernels
use_reproducible_kernels()
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
print(os.environ["CUBLAS_WORKSPACE_CONFIG"], cudnn.rnn.fp32_precision, cudnn.conv.fp32_precision, matmul.fp32_precision)
"""


def test_on_a_gpu_fp32_is_fp32_and_the_workspace_is_one_with_which_rnns_repeat_themselves() -> None:
    command = [sys.executable, "-W", "error", "-c", REPRODUCIBLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == ":16:8 ieee ieee ieee\n", done.stderr


@pytest.mark.parametrize(("precision", "code"), [("auto", 0), ("bf16", 2)])
def test_a_processor_without_bf16_trains_in_fp32_or_not_at_all(
    encoded: Path, tmp_path: Path, precision: str, code: int
) -> None:
    project = shutil.copytree(encoded, tmp_path / "project")
    write_params(project, {"train.precision": precision})
    done = run_stage(project, "train", ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    first = done.stderr.splitlines()[0]
    assert done.returncode == code, done.stderr
    if code == 0:
        assert first.endswith(" 1 process(es) on cpu, fp32: this processor multiplies no bf16")
    else:
        assert done.stderr == (
            "ERROR: train.precision is bf16, and this processor computes no LSTM in it: set auto or fp32\n"
        )
