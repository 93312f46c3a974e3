"""Checkpoints whose checksums are right and whose content is not: put aside, and the one before is used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate.state import AcceleratorState
from stages import run_stage
from torch import Tensor

from benchmarks.projects import results, text, torchrun, write_params
from charlstm.files.atomic import sha256
from charlstm.params import load_params
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import COMPLETE, STATE, Checkpoint, CheckpointFolder
from charlstm.training.processes import Processes
from charlstm.training.train import Data, Result, fit

Tensors = dict[str, Tensor]
Forge = Callable[[Tensors, dict[str, Any]], object]
OVERRIDE = {"train.epochs": 2, "train.ema_decay": 0.9, "train.optimizer": "muon", "train.batch_size": 5}
WEIGHT = "model.head.weight"


def forge(path: Path, change: Forge) -> None:
    """Another content of the checkpoint in `path`, with a checksum to match."""
    found = Checkpoint.from_bytes((path / STATE).read_bytes())
    tensors, metadata = dict(found.tensors), dict(found.metadata)
    changed = change(tensors, metadata)
    content = Checkpoint(tensors, cast(dict[str, Any], changed) if isinstance(changed, list) else metadata).to_bytes()
    (path / STATE).write_bytes(content)
    manifest = json.loads((path / COMPLETE).read_text())
    (path / COMPLETE).write_text(json.dumps(manifest | {"sha256": sha256(path / STATE)}))


def put(name: str, value: Tensor) -> Forge:
    return lambda tensors, _: tensors.update({name: value})


def scaled(name: str, by: Callable[[Tensor], Tensor]) -> Forge:
    return lambda tensors, _: tensors.update({name: by(tensors[name])})


def drop(name: str) -> Forge:
    return lambda tensors, _: tensors.pop(name)


def progress(**values: object) -> Forge:
    return lambda _, metadata: metadata.update(progress=metadata["progress"] | values)


def said(name: str, value: object) -> Forge:
    return lambda _, metadata: metadata.update({name: value})


FORGERIES: dict[str, Forge] = {
    "a weight is missing": drop(WEIGHT),
    "one weight more": put("model.head.scale", torch.ones(3)),
    "another shape": scaled(WEIGHT, lambda weight: weight[1:]),
    "another dtype": scaled(WEIGHT, lambda weight: weight.half()),
    "an average is missing": drop("average.module.head.weight"),
    "a best weight is missing": drop("best.head.weight"),
    "another shape of a best weight": scaled("best.head.weight", lambda weight: weight.t()),
    "a moment is missing": drop("optimizers.0.0.exp_avg"),
    "moments of one kind are missing": drop("optimizers.0.1.exp_avg_sq"),
    "another shape of a moment": scaled("optimizers.1.0.mean", lambda moment: moment[:, 1:]),
    "a scalar moment": put("optimizers.0.0.exp_avg", torch.tensor(0.0)),
    "moments of a weight that is none": put("optimizers.0.99.exp_avg", torch.zeros(3)),
    "an optimizer that is none": put("optimizers.7.0.mean", torch.zeros(3)),
    "an index that is none": put("optimizers.0.x.exp_avg", torch.zeros(3)),
    "no carried state": drop("state.cell"),
    "a carried state of fewer rows": scaled("state.hidden", lambda state_LBH: state_LBH[:, 1:]),
    "a negative step": progress(step=-1),
    "a step beyond the end": progress(step=1_000_000, step_in_epoch=1_000_000),
    "a step that does not fit the epochs": progress(step=3),
    "steps of the epoch that do not fit": progress(step_in_epoch=-2),
    "a best epoch that never was": progress(best=[9, 9, 1.0, 1.0]),
    "a step that is no number": progress(step="many"),
    "no progress": lambda _, metadata: metadata.pop("progress"),
    "no meter": lambda _, metadata: metadata.pop("meter"),
    "a meter of something else": said("meter", [1, 2]),
    "no number of skipped steps": said("num_skipped", None),
    "infinitely many skipped steps": said("num_skipped", float("inf")),
    "no environment": lambda _, metadata: metadata.pop("environment"),
    "an environment of numbers": said("environment", 7),
    "metadata that are a list": lambda *_: [1, 2],
}  # fmt: skip


def run(folder: Path) -> Result:
    """Train with checkpoints in a folder, one after every step."""
    AcceleratorState._reset_state(reset_partial_state=True)  # a new start is a new process
    write_params(folder.parent, OVERRIDE)
    loaded, content = load_params(folder.parent / "params.yaml"), text()
    vocab = Vocab.of(content)
    data = Data(EncodedText(vocab.encode(content[:1500])), EncodedText(vocab.encode(content[1500:1800])), vocab)
    return fit(data, loaded.model, loaded.train, Processes("fp32"), [], CheckpointFolder(folder, 1e-9))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A training that is over, with the checkpoints of its last two steps. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("finished") / "state"
    result = run(folder)
    assert len(list(folder.glob("step-*"))) == 2
    return folder, result


@pytest.fixture
def state(finished: tuple[Path, Result], tmp_path: Path) -> tuple[Path, Result]:
    folder, result = finished
    shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / folder.name, result


def assert_same(found: Result, expected: Result) -> None:
    assert (found.steps, found.epochs) == (expected.steps, expected.epochs)
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


@pytest.mark.parametrize("name", FORGERIES)
def test_the_one_before_is_used(state: tuple[Path, Result], name: str, caplog: pytest.LogCaptureFixture) -> None:
    folder, expected = state
    before, newest = sorted(folder.glob("step-*"))
    forge(newest, FORGERIES[name])
    found = run(folder)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the checkpoint {newest} is damaged (") and line.endswith("is taken, if any")
    assert (folder / f"damaged-{newest.name}").exists()
    assert_same(found, expected)


def test_if_all_are_damaged_training_starts_over_and_says_so(
    state: tuple[Path, Result], caplog: pytest.LogCaptureFixture
) -> None:
    folder, expected = state
    for path, name in zip(sorted(folder.glob("step-*")), ("no carried state", "a moment is missing"), strict=True):
        forge(path, FORGERIES[name])
    assert_same(run(folder), expected)
    assert caplog.text.count(" is damaged (") == 2
    assert f"no whole checkpoint in {folder}: training starts over" in caplog.text


def test_what_is_not_forged_is_restored(state: tuple[Path, Result], caplog: pytest.LogCaptureFixture) -> None:
    folder, expected = state
    forge(max(folder.glob("step-*")), lambda *_: None)
    assert_same(run(folder), expected)
    assert caplog.text == ""


@pytest.mark.slow
def test_two_processes_agree_on_it(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"train.batch_size": 5})
    command, environment = [*torchrun(2), "-m"], {"CHARLSTM_CHECKPOINT_SECONDS": "0.0001", "OMP_NUM_THREADS": "1"}
    assert run_stage(project, "train", command, **environment).returncode == 0
    expected = results(project)
    shutil.rmtree(project / "artifacts")
    before, newest = sorted(project.glob(".charlstm/*/step-*"))
    forge(newest, FORGERIES["another shape of a moment"])
    done = run_stage(project, "train", command, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{newest.name} is damaged (") == 1
    assert f"resuming from the checkpoint of step {int(before.name.removeprefix('step-'))} of" in done.stderr
    assert results(project) == expected
