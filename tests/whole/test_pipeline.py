"""Stages as DVC runs them: alone with what they declare, and all together."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from charlstm.params import NOTHING
from tests.support.layers import VIEWS, closure, file_of, is_in, module_names
from tests.support.projects import PACKAGES, ROOT, write_params
from tests.support.stages import dvc, dvc_done, run_stage, start_dvc

DVC_YAML = (ROOT / "dvc.yaml").read_text()
DVC = YAML(typ="safe", pure=True).load(DVC_YAML)
VALUES = {f"paths.{name}": path for name, path in DVC["vars"][0]["paths"].items()}
VALUES |= {"download.name": "shakespear", "download.watch": "text.txt", "train.initial": NOTHING}
# Views, and the state of an unfinished training.
UNDECLARED = {"mlflow.db", "mlflow.db.lock", "mlartifacts", ".charlstm", "__pycache__"}


def resolve(entries: list[str | dict[str, object]]) -> list[str]:
    """Declared paths with `${...}` filled in, whether an entry has options or not."""
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return [re.sub(r"\$\{([\w.]+)\}", lambda match: VALUES[match[1]], name) for name in names]


def outputs_of(name: str) -> list[str]:
    """All that a stage declares to make."""
    stage = DVC["stages"][name]
    return resolve(
        [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    )


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", DVC["stages"])
def test_a_stage_alone_with_its_declared_inputs_makes_its_outputs(
    trained: Path, blank_store: Path, tmp_path: Path, name: str
) -> None:
    stage = DVC["stages"][name]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(blank_store, alone)
    inputs = ["dvc.yaml", "params.yaml", *resolve(stage["deps"])]
    packages = [file for package in PACKAGES for file in (trained / package).rglob("__init__.py")]
    views = [module for module in module_names() if is_in(module, VIEWS)]
    shown = {
        str(file_of(name)) for view in views for name in closure(view)
    }  # what shows results may import anything
    inputs += [
        *shown,
        "charlstm/generation/__pycache__",
        *(str(file.relative_to(trained)) for file in packages),
    ]
    for path in inputs:
        if (alone / path).exists():
            continue
        (alone / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (trained / path).is_dir() else shutil.copy
        copy(trained / path, alone / path)
    before = files_below(alone)

    done = run_stage(alone, name)

    assert done.returncode == 0, done.stderr
    made = {path for path in files_below(alone) - before if UNDECLARED.isdisjoint(Path(path).parts)}
    outputs = outputs_of(name)
    assert made
    assert {
        path
        for path in made
        if not any(path == out or path.startswith(f"{out}/") for out in outputs)
    } == set()
    assert all((alone / out).exists() for out in outputs)
    for path in made:  # and they are a pure function of those inputs
        assert (alone / path).read_bytes() == (trained / path).read_bytes(), path


# Which stages a change of code makes out of date.
DECIDED = {
    "charlstm/generation/kernels.py": {"sample"},
    "charlstm/corpus/fetch.py": {"download", "split", "encode"},
    "charlstm/model/gates.py": {"train", "evaluate", "sample"},
    "charlstm/tracking/publish.py": set(),
}


def test_a_change_of_code_concerns_the_stages_that_it_decides(copy: Path) -> None:
    (copy / "charlstm/model/__pycache__").mkdir(exist_ok=True)
    for suffix in ("pyc", "nbi", "nbc"):  # of Python, and numba's
        (copy / f"charlstm/model/__pycache__/gates.cpython-311.{suffix}").write_bytes(
            b"other times"
        )
    assert json.loads(dvc(copy, "status", "--json")) == {}
    concerned = {}
    for file in DECIDED:
        before = (copy / file).read_bytes()
        (copy / file).write_bytes(before + b"# touched\n")
        concerned[file] = set(json.loads(dvc(copy, "status", "--json")))
        (copy / file).write_bytes(before)
    assert concerned == DECIDED


def hashes(project: Path) -> dict[str, str]:
    lock = YAML(typ="safe", pure=True).load((project / "dvc.lock").read_text())
    return {
        out["path"]: out["md5"]
        for stage in lock["stages"].values()
        for out in stage.get("outs", [])
    }


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


@pytest.mark.slow
def test_dvc_runs_what_is_out_of_date_and_nothing_else(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project, ignore=shutil.ignore_patterns("Datasets"))
    start_dvc(project)
    shutil.copy(ROOT / ".dvc/config", project / ".dvc")
    dvc(
        project, "config", "hydra.enabled", "false"
    )  # the shipped recipes would take the place of tiny parameters
    assert stages_run(dvc(project, "repro")) == list(DVC["stages"])
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", "all")
    first = hashes(project)
    assert set(first) == {path for name in DVC["stages"] for path in outputs_of(name)}

    assert "Data and pipelines are up to date" in dvc(project, "repro")
    done = dvc_done(project, "repro", "--force", "--no-run-cache")
    assert hashes(project) == first
    assert (
        "epoch 1/1 " in done.stderr and "resuming" not in done.stderr
    )  # it trained: a replay has the same hashes

    write_params(project, {"sample.temperatures": [0.5]})
    assert stages_run(dvc(project, "repro")) == ["check", "sample"]
    write_params(project, {"sample.temperatures": [0.5], "train.learning_rate": 0.003})
    assert stages_run(dvc(project, "repro")) == ["check", "train", "evaluate", "sample"]
    write_params(project, {"sample.temperatures": [0.5]})
    done = dvc_done(
        project, "repro", "--force", "--single-item", "train"
    )  # `dvc.lock` names the other training
    assert "epoch 1/1 " in done.stderr
    write_params(project, {"sample.temperatures": [0.5], "train.learning_rate": 0.003})
    dvc(project, "repro")

    dvc(project, "git", "commit", "-qam", "changed")
    assert "stateful.nats_per_char" in dvc(project, "metrics", "show")
    assert "artifacts/evaluate/metrics.json" in dvc(project, "metrics", "diff", "HEAD~1")
    dvc(project, "exp", "run", "--temp", "-S", "train.learning_rate=0.02", "-n", "faster", "train")
    assert "faster" in dvc(project, "exp", "show", "--csv")
    with closing(
        sqlite3.connect(project / "mlflow.db")
    ) as store:  # the main tree's store, not the temporary one's
        assert ("faster",) in store.execute(
            "select value from tags where key = 'dvc_exp_name'"
        ).fetchall()

    dvc(project, "remote", "add", "-d", "backup", str(tmp_path / "remote"))
    dvc(project, "push")
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "artifacts/model")
    dvc(project, "pull")
    assert (project / "artifacts/model/model.safetensors").exists()
    assert "up to date" in dvc(project, "status")
