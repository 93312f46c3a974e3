"""What gets no memory ends in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from charlstm.training.processes import is_out_of_memory
from tests.support.projects import write_params

OUT_OF_MEMORY = """
import resource, sys
import psutil
from pipeline import train
from pipeline.run import stage
limit = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(stage.run(train.run, []))
"""


def test_what_the_libraries_of_cuda_say_without_memory_is_known() -> None:
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert not is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    )


def test_a_step_that_gets_no_memory_is_one_line(encoded: Path, tmp_path: Path) -> None:
    """The weights fit; 4,000 windows of 300 characters, each with a number for each of 90 characters, do not."""
    project = shutil.copytree(encoded, tmp_path / "project")
    write_params(project, {"train.batching": "windows", "train.batch_size": 4000, "train.context_len": 300,
                           "train.window_stride": 1, "train.warmup_steps": 0})  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, "700"],
        cwd=project, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith(
        "ERROR: out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size"
    )
    assert "Traceback" not in done.stderr
    assert not (project / "artifacts/model").exists()
