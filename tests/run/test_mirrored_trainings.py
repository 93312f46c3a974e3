"""A whole training that begins on one machine and ends on another, with a mirror in S3.

`tests/whole/test_stopping.py` has a mirror in a folder.
"""

import shutil
import time
from pathlib import Path

import pytest

from benchmarks.object_store import BUCKET, object_store
from pipeline.run.project import CHECKPOINT_MIRROR
from tests.support.projects import results, start, training_command, write_params
from tests.support.stages import run_stages


@pytest.mark.slow
def test_another_machine_ends_what_one_has_begun(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    template, log = shutil.copytree(encoded, tmp_path / "template"), tmp_path / "gone.log"
    write_params(template, {"train.epochs": 3})
    run_stages(shutil.copytree(template, tmp_path / "undisturbed"), "train")
    with object_store() as variables:
        variables[CHECKPOINT_MIRROR] = f"s3://{BUCKET}/trainings"
        shutil.copytree(template, tmp_path / "gone")
        many = {"CHARLSTM_CHECKPOINT_SECONDS": "0.1", **variables}
        process, deadline = (
            start(tmp_path / "gone", training_command(1), log, **many),
            time.monotonic() + 120,
        )
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
