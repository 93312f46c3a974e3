"""A whole training that begins on one machine and ends on another, with a checkpoint mirror."""

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from stages import run_stages

from benchmarks.object_store import BUCKET, object_store
from benchmarks.projects import results, start, training_command, write_params
from pipeline.run.project import CHECKPOINT_MIRROR


@pytest.mark.parametrize("is_s3", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_another_machine_ends_what_one_has_begun(
    is_s3: bool, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    template, log = shutil.copytree(encoded, tmp_path / "template"), tmp_path / "gone.log"
    write_params(template, {"train.epochs": 3})
    run_stages(shutil.copytree(template, tmp_path / "undisturbed"), "train")
    store: AbstractContextManager[dict[str, str]] = object_store() if is_s3 else nullcontext({})
    with store as variables:
        mirror = f"s3://{BUCKET}/trainings" if is_s3 else (tmp_path / "mirror").as_uri()
        variables = {**variables, CHECKPOINT_MIRROR: mirror}
        shutil.copytree(template, tmp_path / "gone")
        many = {"CHARLSTM_CHECKPOINT_SECONDS": "0.1", **variables}
        process, deadline = start(tmp_path / "gone", training_command(1), log, **many), time.monotonic() + 120
        while "epoch 2/3" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 75, log.read_text()
        training_id = next((tmp_path / "gone").glob(".charlstm/*/training-id")).read_text()
        shutil.rmtree(tmp_path / "gone")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        run_stages(shutil.copytree(template, tmp_path / "next"), "train")
        assert "the mirror has a newer checkpoint than this machine" in caplog.text
        assert results(tmp_path / "next") == results(tmp_path / "undisturbed")
        assert next((tmp_path / "next").glob(".charlstm/*/training-id")).read_text() == training_id
