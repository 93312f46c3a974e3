"""Memory is estimated before anything is built, and what cannot fit is refused in one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import control_group
from stages import run_stage

from benchmarks.projects import PYTHON, ROOT, compose, start, write_params
from charlstm.errors import TrainingError
from charlstm.model.shape import ModelShape
from charlstm.params import Params
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.learner import Learner
from charlstm.training.needs import MemoryNeeds, check_memory, memory_needs
from charlstm.training.processes import Processes
from pipeline.stage.hardware import available_memory


def needs_of(shape: ModelShape) -> MemoryNeeds:
    """With AdamW and a moving average, in fp32, of 32 rows of 64 characters."""
    train = compose(ROOT, ["recipe=quick", "train.optimizer=adamw", "train.precision=fp32"]).train
    assert (train.ema_decay > 0, train.context_len, train.dropout.output_samples) == (True, 64, 1)
    return memory_needs(shape, train, 32)


def num_bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize(
    "override",
    [
        {"train.optimizer": "adamw"},
        {"train.optimizer": "muon", "train.ema_decay": 0.0},
        {"train.optimizer": "muon", "model.num_layers": 3, "model.feed_forward_size": 0},
        {"train.optimizer": "adamw", "model.embedding_size": 0, "train.precision": "fp64"},
    ],
)
def test_the_estimate_is_what_a_learner_has_after_a_step(
    tmp_path: Path, params: Callable[[Path, dict[str, Any]], Params], text: str, override: dict[str, Any]
) -> None:
    loaded = params(tmp_path, {"model.implementation": "gates", **override})
    model, train, vocab = loaded.model, loaded.train, Vocab.of(text)
    learner = Learner(EncodedText(vocab.encode(text[:3000])), len(vocab), model, train, Processes(train.precision))
    learner.take_step(0, 1, 0)
    needs = memory_needs(learner.shape, train, learner.num_rows)
    weights = list(learner.model.parameters())
    assert needs.weights == num_bytes(weights)
    assert needs.gradients == num_bytes([weight for weight in weights if weight.requires_grad])
    moments = [
        moment
        for optimizer in learner.optimizers
        for values in optimizer.state_dict()["state"].values()
        for name, moment in values.items()
        if name != "step"
    ]
    assert needs.optimizer == num_bytes(moments)
    best, average = needs.weights, num_bytes(list(learner.averaged.parameters())) if train.ema_decay > 0 else 0
    assert needs.averages == best + average


def test_the_logits_of_a_large_alphabet_count_in_pieces() -> None:
    """Beyond what is computed at once, a larger alphabet adds its weights alone."""
    small, large, larger = (needs_of(ModelShape(vocab, 128, 320, 1, 320)).activations for vocab in (65, 9_000, 30_000))
    assert small < large == larger < small + 2 * 4 * 2**22


def test_what_fits_is_not_refused_whatever_its_activations_need() -> None:
    needs = needs_of(ModelShape(65, 128, 4096, 1, 320))._replace(activations=10**15)
    check_memory(needs, needs.without_activations)
    with pytest.raises(TrainingError, match="are available to each process: lower model.hidden_size"):
        check_memory(needs, needs.without_activations - 1)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        (
            "0::/job\n",
            {
                "job/memory.max": "max",
                "job/memory.current": "0",
                "memory.max": "3000000",
                "memory.current": "1500000",
                "memory.stat": "anon 5\ninactive_file 500000\n",
            },
        ),
        (
            "3:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "3000000",
                "memory/job/memory.usage_in_bytes": "1500000",
                "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 500000\n",
            },
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_the_memory_limit_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]
) -> None:
    root, host = control_group(tmp_path, own, files), torch.device("cpu")
    assert available_memory(host, root) == 2_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_memory(host, root) == 500_000


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/\n", {"memory.max": "max", "memory.current": "5"})
    assert available_memory(torch.device("cpu"), root) > 2**26


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    return folder


def test_a_model_that_cannot_fit_is_refused_before_it_is_built(project: Path) -> None:
    write_params(project, {"model.hidden_size": 20_000, "model.num_layers": 64})
    done = run_stage(project, "train")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR: the model does not fit into memory: it needs at least ")
    assert not list(project.glob(".charlstm/*/"))


OUT_OF_MEMORY = """
import resource, sys
import psutil
from pipeline import train
from pipeline.stage import stage
limit = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(stage.run(train.run, []))
"""


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
