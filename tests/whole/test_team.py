"""docs/team.md, typed by two users with servers on this machine."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.documented import PAGES, blocks
from tests.support.object_store import object_store
from tests.support.projects import PATH, captured, make_project
from tests.support.servers import mlflow_server, postgres, postgres_programs
from tests.support.stages import IDENTITY, commit_all, start_dvc

pytestmark = pytest.mark.slow
GIT, SERVER, VARIABLES, FIRST, SECOND, NEXT = blocks(PAGES["docs/team.md"], "bash")


class Team(NamedTuple):
    """Servers, and the folder that contains the users' folders."""

    folder: Path
    env: dict[str, str]
    words: dict[str, str]

    def types(self, block: str, where: Path) -> str:
        """Return the output of a block of the page."""
        for word, meaning in self.words.items():
            block = block.replace(word, meaning)
        command = ["bash", "-e", "-o", "pipefail", "-c", block]
        done = captured(command, where, **self.env)
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
            "GIT_SERVER": str(folder / "git"),
            "S3_SERVER": bucket["AWS_ENDPOINT_URL"],
            "MLFLOW_SERVER": address,
            "KATE:": "def ",
            "AWS_ACCESS_KEY_ID=USER": "AWS_ACCESS_KEY_ID=user",
            "=SECRET": "=not-a-secret",
        }
        env = {**IDENTITY, "PATH": f"{folder}/bin:{PATH}", "OMP_NUM_THREADS": "1"}
        yield Team(folder, env | {"AWS_DEFAULT_REGION": "us-east-1"}, words)


@pytest.fixture(scope="module")
def first(team: Team) -> Path:
    """Return the first user's checkout, after the page's commands."""
    project = team.folder / "first"
    make_project(project, {"train.epochs": 2, "sample.num_chars": 20})
    start_dvc(project)
    commit_all(project, "code")
    team.types(GIT, team.folder)
    team.types(VARIABLES + FIRST, project)
    return project


def test_two_users_share_data_models_runs_and_a_champion(team: Team, first: Path) -> None:
    there = team.folder / "second"
    there.mkdir()
    said = team.types(VARIABLES + SECOND, there)
    assert "Data and pipelines are up to date." in said
    assert "identical: all 17 outputs" in said
    project = there / "charlstm"
    said = team.types(VARIABLES + NEXT, project)
    assert re.search(r"has a lower loss than .* nats", said), said
    said = team.types(VARIABLES + "charlstm info models:/charlstm-shakespear@champion", project)
    assert re.search(r"charlstm-shakespear.*champion", said, re.IGNORECASE)
    team.types("git pull --quiet team main", first)
    team.types(VARIABLES + "dvc pull && dvc repro", first)
