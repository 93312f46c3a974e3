"""A whole training that begins on one machine and ends on another, with a checkpoint mirror."""

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from benchmarks.object_store import BUCKET, object_store
from benchmarks.projects import make_encoded_project, results, run, start, training_command
from pipeline.run.project import CHECKPOINT_MIRROR


def train(template: Path, machine: Path, **variables: str) -> str:
    """On a machine that has code and data only; what it says."""
    shutil.copytree(template, machine)
    log = machine.with_suffix(".log")
    assert run(machine, training_command(1), log, **variables) == 0, log.read_text()
    return log.read_text()


@pytest.mark.parametrize("is_s3", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_another_machine_ends_what_one_has_begun(is_s3: bool, tmp_path: Path) -> None:
    template, log = tmp_path / "template", tmp_path / "gone.log"
    make_encoded_project(template, {"train.epochs": 3})
    train(template, tmp_path / "undisturbed")
    store: AbstractContextManager[dict[str, str]] = object_store() if is_s3 else nullcontext({})
    with store as variables:
        mirror = f"s3://{BUCKET}/trainings" if is_s3 else (tmp_path / "mirror").as_uri()
        variables = {**variables, CHECKPOINT_MIRROR: mirror}
        shutil.copytree(template, tmp_path / "gone")
        many = {"CHARLSTM_CHECKPOINT_SECONDS": "0.01", **variables}
        process, deadline = start(tmp_path / "gone", training_command(1), log, **many), time.monotonic() + 120
        while "epoch 2/3" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 75, log.read_text()
        training_id = next((tmp_path / "gone").glob(".charlstm/*/training-id")).read_text()
        shutil.rmtree(tmp_path / "gone")
        said = train(template, tmp_path / "next", **variables)
        assert "the mirror has a newer checkpoint than this machine" in said and "epoch 1/3" not in said
        assert results(tmp_path / "next") == results(tmp_path / "undisturbed")
        assert next((tmp_path / "next").glob(".charlstm/*/training-id")).read_text() == training_id
