"""docs/team.md, typed by two users with servers on this machine; and what they see of a damaged remote."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from documented import PAGES, blocks
from servers import mlflow_server, postgres, postgres_programs
from stages import dvc, start_dvc

from benchmarks.object_store import BUCKET, object_store
from benchmarks.projects import make_project

NUM_DAMAGED, NUM_MADE_AGAIN, KINDS = 30, 3, ("missing", "cut", "swapped")

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
        done = subprocess.run(command, cwd=where, env=self.env, capture_output=True, text=True, timeout=600)
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
        address = servers.enter_context(mlflow_server(backend, folder / "mlflow.log", *options[2:], env=bucket))
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
    assert re.search(r"is lower than .* nats per character on this text", said)
    assert version.search(team.types(VARIABLES + "charlstm info models:/charlstm-shakespear@champion", project))
    team.types("git pull --quiet team main", first)
    team.types(VARIABLES + "dvc pull && dvc repro", first)
    assert any(name.endswith(".complete") for name in objects(team, "checkpoints"))


def test_a_damaged_object_of_the_remote_is_named(team: Team, first: Path) -> None:
    """And what cannot be pulled is made again, to the same hashes."""
    whole, lock = team.folder / "whole", (first / "dvc.lock").read_text()
    team.types(f"git clone --quiet --branch main GIT_SERVER/charlstm.git {whole}", team.folder)
    team.types(VARIABLES + "dvc pull", whole)
    pulled = {str(path.relative_to(whole / ".dvc/cache")) for path in whole.glob(".dvc/cache/files/md5/*/*")}
    draws, kept = random.Random(0), [name for name in objects(team, "dvc/") if name.removeprefix("dvc/") in pulled]
    assert len(kept) == len(pulled) > NUM_DAMAGED / 2  # others are of models that main does not name any more
    for number in range(NUM_DAMAGED):
        name, kind = draws.choice(kept), KINDS[number % len(KINDS)]
        content, other = read(team, name), read(team, draws.choice([one for one in kept if one != name]))
        damaged = {"missing": None, "cut": content[: len(content) // 2], "swapped": other}[kind]
        put(team, name, damaged)
        clone, md5 = team.folder / "damaged", "".join(name.split("/")[-2:])
        team.types(f"git clone --quiet --branch main GIT_SERVER/charlstm.git {clone}", team.folder)
        own = f"export DVC_SITE_CACHE_DIR={clone}/.site\n"  # what DVC knows of the remote without asking
        said = team.types(VARIABLES + own + "! dvc pull", clone)
        named = re.findall(r"(?:Datasets|artifacts)/\S+", said.partition("failed to pull data")[2])
        assert damaged == content or named or md5.removesuffix(".dir") in said, f"{kind} {name}: {said}"
        put(team, name, content)
        if number < NUM_MADE_AGAIN:
            team.types(VARIABLES.replace("export CHARLSTM", "# ") + own + "dvc repro", clone)
            assert (clone / "dvc.lock").read_text() == lock
        shutil.rmtree(clone)


def store(team: Team) -> Any:  # noqa: ANN401  # boto3 has no types
    names = {"endpoint_url": team.words["S3_SERVER"], "region_name": "us-east-1"}
    return boto3.client("s3", aws_access_key_id="any", aws_secret_access_key="any", **names)


def objects(team: Team, prefix: str) -> list[str]:
    return [one["Key"] for one in store(team).list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]


def read(team: Team, name: str) -> bytes:
    content: bytes = store(team).get_object(Bucket=BUCKET, Key=name)["Body"].read()
    return content


def put(team: Team, name: str, content: bytes | None) -> None:
    if content is None:
        store(team).delete_object(Bucket=BUCKET, Key=name)
    else:
        store(team).put_object(Bucket=BUCKET, Key=name, Body=content)
