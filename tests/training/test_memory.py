"""A lack of memory is one line."""

import sys
from pathlib import Path

from charlstm.training.processes import is_out_of_memory
from tests.support.projects import captured, write_params

OUT_OF_MEMORY = """
import resource, sys
import psutil
from pipeline import train
from pipeline.run import stage
limit = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(stage.main(["train"]))
"""


def test_what_the_libraries_of_cuda_say_without_memory_is_known() -> None:
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert is_out_of_memory(RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"))
    assert is_out_of_memory(RuntimeError("NCCL: Failed to CUDA calloc 4194304 bytes"))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when"))


def test_a_step_that_gets_no_memory_is_one_line(project: Path) -> None:
    """The weights fit. The logits of 4,000 windows of 300 characters do not."""
    large = {"train.batch_size": 4000, "train.context_len": 300, "train.warmup_steps": 0}
    windows = {"train.batching": "windows", "train.window_stride": 1}
    write_params(project, large | windows)
    command = [sys.executable, "-c", OUT_OF_MEMORY, "700"]
    done = captured(command, project, 120, OMP_NUM_THREADS="1")
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith(
        "ERROR: out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size"
    )
    assert "Traceback" not in done.stderr
    assert not (project / "artifacts/model").exists()
