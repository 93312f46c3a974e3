"""What gets no memory ends in one line, and a model that is built can be interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.projects import PYTHON, start, write_params
from charlstm.training.processes import is_out_of_memory


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    return folder


OUT_OF_MEMORY = """
import resource, sys
import psutil
from pipeline import train
from pipeline.stage import stage
limit = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(stage.run(train.run, []))
"""


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", False),
    ],
)
def test_what_the_libraries_of_cuda_say_without_memory_is_known(said: str, is_memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(said)) == is_memory


def test_a_step_that_gets_no_memory_is_one_line(project: Path) -> None:
    """The weights fit; 4,000 windows of 300 characters, each with a number for each of 90 characters, do not."""
    write_params(project, {"train.batching": "windows", "train.batch_size": 4000, "train.context_len": 300,
                           "train.window_stride": 1, "train.warmup_steps": 0})  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, "700"],
        cwd=project, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size")
    assert "Traceback" not in done.stderr
    assert not (project / "artifacts").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_while_the_model_is_built_ends_it_in_seconds(
    project: Path, tmp_path: Path, number: signal.Signals
) -> None:
    write_params(project, {"model.num_layers": 100, "model.hidden_size": 384})
    process = start(project, [*PYTHON, "pipeline.train"], tmp_path / "log")
    while not list(project.glob(".charlstm/*/training-id")):  # the last thing before the model
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    try:
        assert process.wait(timeout=10) == 75
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "log").read_text() == "ERROR: interrupted\n"
