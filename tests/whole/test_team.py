"""docs/team.md, typed by two users with servers on this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest

from benchmarks.object_store import BUCKET, object_store
from tests.support.documented import PAGES, blocks
from tests.support.projects import make_project
from tests.support.servers import mlflow_server, postgres, postgres_programs
from tests.support.stages import dvc, start_dvc

pytestmark = pytest.mark.slow
GIT, SERVER, VARIABLES, FIRST, SECOND, NEXT = blocks(PAGES["docs/team.md"], "bash")


class Team(NamedTuple):
    """The servers, and the folder in which users have theirs."""

    folder: Path
    env: dict[str, str]
    words: dict[str, str]

    def types(self, block: str, where: Path) -> str:
        """What a user sees who types a block of the page."""
        for word, meaning in self.words.items():
            block = block.replace(word, meaning)
        command = ["bash", "-e", "-o", "pipefail", "-c", block]
        done = subprocess.run(
            command, cwd=where, env=self.env, capture_output=True, text=True, timeout=600
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "bin").mkdir()
    program = folder / "bin/charlstm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline.cli "$@"\n')
    program.chmod(0o755)
    with ExitStack() as servers:
        bucket = servers.enter_context(object_store())
        programs = postgres_programs()
        backend = f"sqlite:///{folder}/mlflow.db"
        if programs is not None:
            backend = f"{servers.enter_context(postgres(programs, 'mlflow'))}/mlflow"
        (line,) = (line for line in SERVER.splitlines() if line.startswith("mlflow server"))
        options = line.split(" --port 5000 ")[1].replace("DATABASE_SERVER/mlflow", backend).split()
        assert options[:2] == ["--backend-store-uri", backend]
        address = servers.enter_context(
            mlflow_server(backend, folder / "mlflow.log", *options[2:], env=bucket)
        )
        words = {
            "GIT_SERVER": str(folder / "git"), "S3_SERVER": bucket["AWS_ENDPOINT_URL"], "MLFLOW_SERVER": address,
            "KATE:": "def ", "AWS_ACCESS_KEY_ID=USER": "AWS_ACCESS_KEY_ID=user", "=SECRET": "=not-a-secret",
        }  # fmt: skip
        names = {"name": "t", "email": "t@t"}
        env = {
            **os.environ, **{f"GIT_{who}_{what.upper()}": value for who in ("AUTHOR", "COMMITTER")
                             for what, value in names.items()},
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "true", "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        yield Team(folder, env, words)


@pytest.fixture(scope="module")
def first(team: Team) -> Path:
    """The first user's checkout, after the page."""
    project = team.folder / "first"
    make_project(project, {"train.epochs": 2, "sample.num_chars": 20})
    start_dvc(project)
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", "code")
    team.types(GIT, team.folder)
    team.types(VARIABLES + FIRST, project)
    return project


def test_two_users_share_data_models_runs_and_a_champion(team: Team, first: Path) -> None:
    there = team.folder / "second"
    there.mkdir()
    said = team.types(VARIABLES + SECOND, there)
    assert "Data and pipelines are up to date." in said
    assert "identical: all 16 outputs" in said and "the mirror has" not in said
    project = there / "charlstm"
    version = re.compile(r"charlstm-shakespear.*champion", re.IGNORECASE)
    said = team.types(VARIABLES + NEXT, project)
    assert re.search(r"is lower than .* nats per character", said)
    assert version.search(
        team.types(VARIABLES + "charlstm info models:/charlstm-shakespear@champion", project)
    )
    team.types("git pull --quiet team main", first)
    team.types(VARIABLES + "dvc pull && dvc repro", first)
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    store = boto3.client("s3", endpoint_url=team.words["S3_SERVER"], **keys)
    copied = store.list_objects_v2(Bucket=BUCKET, Prefix="checkpoints")["Contents"]
    assert any(one["Key"].endswith("SHA256SUMS") for one in copied)
