"""Stages as DVC runs them: alone with their declared inputs, and all together."""

import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from charlstm.params import NOTHING
from pipeline.run.dvc import parse_lock
from tests.support.layers import VIEWS, closure, file_of, is_in, module_names
from tests.support.projects import PACKAGES, ROOT, write_params
from tests.support.stages import commit_all, dvc, dvc_done, run_stage, start_dvc
from tests.support.stores import query

DVC_YAML = (ROOT / "dvc.yaml").read_text()
DVC = YAML(typ="safe", pure=True).load(DVC_YAML)
VALUES = {f"paths.{name}": path for name, path in DVC["vars"][0]["paths"].items()}
VALUES |= {"download.name": "shakespear", "download.watch": "text.txt", "train.initial": NOTHING}
# Views, and the state of an unfinished training, are not declared.
UNDECLARED = {"mlflow.db", "mlflow.db.lock", "mlartifacts", ".charlstm", "__pycache__"}


def resolve(entries: list[str | dict[str, object]]) -> list[str]:
    """Return the declared paths with `${...}` filled in."""
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return [re.sub(r"\$\{([\w.]+)\}", lambda match: VALUES[match[1]], name) for name in names]


def outputs_of(name: str) -> list[str]:
    """Return all declared outputs of a stage."""
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
    inputs = ["dvc.yaml", "params.yaml", *resolve(stage["deps"]), "charlstm/generation/__pycache__"]
    # A view may import anything.
    views = [module for module in module_names() if is_in(module, VIEWS)]
    inputs += {str(file_of(module)) for view in views for module in closure(view)}
    for package in PACKAGES:
        files = (trained / package).rglob("__init__.py")
        inputs += [str(file.relative_to(trained)) for file in files]
    for path in inputs:
        if not (alone / path).exists():
            (alone / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (trained / path).is_dir() else shutil.copy
            copy(trained / path, alone / path)
    before = files_below(alone)

    done = run_stage(alone, name)

    assert done.returncode == 0, done.stderr
    made = {path for path in files_below(alone) - before if UNDECLARED.isdisjoint(Path(path).parts)}
    outputs = outputs_of(name)
    assert made
    for path in made:
        assert any(path == out or path.startswith(f"{out}/") for out in outputs), path
        # The outputs are a pure function of the inputs.
        assert (alone / path).read_bytes() == (trained / path).read_bytes(), path
    assert all((alone / out).exists() for out in outputs)


# The stages that a change of code makes out of date.
DECIDED = {
    "charlstm/generation/kernels.py": {"sample"},
    "charlstm/corpus/fetch.py": {"download", "split", "encode"},
    "charlstm/model/gates.py": {"train", "evaluate", "sample"},
    "charlstm/tracking/publish.py": set(),
}


def test_a_change_of_code_concerns_the_stages_that_it_decides(copy: Path) -> None:
    cache = copy / "charlstm/model/__pycache__"
    cache.mkdir(exist_ok=True)
    for suffix in ("pyc", "nbi", "nbc"):  # the caches of Python and numba
        (cache / f"gates.cpython-311.{suffix}").write_bytes(b"other times")
    assert json.loads(dvc(copy, "status", "--json")) == {}
    concerned = {}
    for file in DECIDED:
        before = (copy / file).read_bytes()
        (copy / file).write_bytes(before + b"# touched\n")
        concerned[file] = set(json.loads(dvc(copy, "status", "--json")))
        (copy / file).write_bytes(before)
    assert concerned == DECIDED


def hashes(project: Path) -> dict[str, str]:
    lock = parse_lock((project / "dvc.lock").read_text())
    assert lock is not None
    return lock.files("outs")


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


@pytest.mark.slow
def test_dvc_runs_what_is_out_of_date_and_nothing_else(project: Path) -> None:
    shutil.rmtree(project / "Datasets")
    start_dvc(project)
    shutil.copy(ROOT / ".dvc/config", project / ".dvc")
    # The shipped recipes would replace the tiny parameters.
    dvc(project, "config", "hydra.enabled", "false")
    assert stages_run(dvc(project, "repro")) == list(DVC["stages"])
    commit_all(project, "all")
    first = hashes(project)
    assert set(first) == {path for name in DVC["stages"] for path in outputs_of(name)}

    assert "Data and pipelines are up to date" in dvc(project, "repro")
    done = dvc_done(project, "repro", "--force", "--no-run-cache")
    assert hashes(project) == first
    # A replay would have the same hashes.
    assert "epoch 1/1 " in done.stderr and "resuming" not in done.stderr

    write_params(project, {"sample.temperatures": [0.5]})
    assert stages_run(dvc(project, "repro")) == ["check", "sample"]
    write_params(project, {"sample.temperatures": [0.5], "train.learning_rate": 0.003})
    assert stages_run(dvc(project, "repro")) == ["check", "train", "evaluate", "sample"]

    dvc(project, "exp", "run", "--temp", "-S", "train.learning_rate=0.02", "-n", "faster", "train")
    assert "faster" in dvc(project, "exp", "show", "--csv")
    # The store is that of the main tree, not of the temporary one.
    names = query(project, "select value from tags where key = 'dvc_exp_name'")
    assert ("faster",) in names
