"""Whole trainings with a mirror: a second machine, `dvc repro` once more, and a mirror that is gone."""

import shutil
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from stages import dvc, start_dvc

from benchmarks.object_store import BUCKET, object_store
from benchmarks.projects import make_encoded_project, results, run, start, training_command
from pipeline.stage.settings import MIRROR


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "mirror").as_uri()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines") / "template"
    make_encoded_project(folder, {"train.epochs": 3})
    return folder


@pytest.fixture(scope="module")
def expected(template: Path) -> dict[str, str]:
    folder = template.with_name("undisturbed")
    shutil.copytree(template, folder)
    assert run(folder, training_command(1), folder.with_suffix(".log")) == 0
    return results(folder)


def train(template: Path, machine: Path, **variables: str) -> tuple[int, str]:
    """On a machine that has code and data only; its exit code and what it says."""
    shutil.copytree(template, machine)
    log = machine.with_suffix(".log")
    return run(machine, training_command(1), log, **variables), log.read_text()


@pytest.mark.parametrize("is_s3", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_another_machine_ends_what_one_has_begun(
    is_s3: bool, template: Path, expected: dict[str, str], url: str, tmp_path: Path
) -> None:
    store: AbstractContextManager[dict[str, str]] = object_store() if is_s3 else nullcontext({})
    with store as variables:
        variables = {**variables, MIRROR: f"s3://{BUCKET}/trainings" if is_s3 else url}
        shutil.copytree(template, tmp_path / "gone")
        log = tmp_path / "gone.log"
        many = {"CHARLSTM_CHECKPOINT_SECONDS": "0.01", **variables}
        process, deadline = start(tmp_path / "gone", training_command(1), log, **many), time.monotonic() + 120
        while "epoch 2/3" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 75, log.read_text()
        training_id = next((tmp_path / "gone").glob(".charlstm/*/training-id")).read_text()
        shutil.rmtree(tmp_path / "gone")
        code, said = train(template, tmp_path / "next", **variables)
        assert code == 0, said
        assert "the mirror has a newer checkpoint than this machine" in said and "epoch 1/3" not in said
        assert results(tmp_path / "next") == expected
        assert next((tmp_path / "next").glob(".charlstm/*/training-id")).read_text() == training_id


def test_a_training_that_dvc_wants_again_begins_anew(template: Path, url: str, tmp_path: Path) -> None:
    code, said = train(template, tmp_path / "a", **{MIRROR: url})
    assert code == 0, said
    start_dvc(tmp_path / "a")
    (tmp_path / "a/dvc.lock").unlink(missing_ok=True)
    log = tmp_path / "again.log"
    dvc(tmp_path / "a", "commit", "--force", "train")
    assert run(tmp_path / "a", training_command(1), log, **{MIRROR: url}) == 0, log.read_text()
    assert "epoch 1/3" in log.read_text()


@pytest.mark.parametrize("is_hanging", [True, False])
def test_a_mirror_that_is_gone_or_says_nothing_costs_a_warning(
    is_hanging: bool, template: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        port = server.getsockname()[1]
        if not is_hanging:
            server.close()
        url, secret = f"http://127.0.0.1:{port}", "not-to-be-shown"
        variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": secret}
        variables |= {MIRROR: f"s3://{BUCKET}/a", "CHARLSTM_CHECKPOINT_MIRROR_SECONDS": "8"}
        code, said = train(template, tmp_path / "a", **variables)
    assert code == 0, said
    assert results(tmp_path / "a") == expected
    assert said.count("WARNING: the mirror of checkpoints fails: ") == 1
    assert said.count("WARNING: the mirror has no copy of the last checkpoint, step-") == 1
    assert "Traceback" not in said and secret not in said
