"""Teachers, what they write, and a student: the stages of `distillation/`, as `dvc repro` runs them."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from disks import BYTES, needs_root, small_disk
from outboxes import DirectSender
from ruamel.yaml import YAML
from stages import dvc, run_here, run_stages, start_dvc

from benchmarks.projects import PYTHON, ROOT, TINY, write_params
from charlstm.files.lock import exclusive
from charlstm.model.model_folder import load_model
from charlstm.text.soft_targets import DISTRIBUTIONS, FILES, load_soft_targets
from charlstm.text.vocabulary import load_vocab
from pipeline.distillation import recipe, teacher, write
from pipeline.dvc.unfinished import CHECKOUT
from pipeline.stage import sending
from pipeline.stage.presets import RECIPES, load
from pipeline.stage.tracking_store import store

TEXT = "artifacts/distillation/text"
SEEDS = (3, 5)
TEACHERS = {
    "teachers.recipes": ["tiny"],
    "teachers.seeds": list(SEEDS),
    "teachers.parts": [1, 2],
    "teachers.part_chars": 900,
    "teachers.row_chars": 300,
    "teachers.prompt_chars": 20,
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> Path:
    """A tiny project in which two teachers have written two parts."""
    project = tmp_path_factory.mktemp("taught") / "project"
    shutil.copytree(encoded, project)
    shutil.copytree(ROOT / "conf", project / "conf", dirs_exist_ok=True)
    shutil.copytree(ROOT / "distillation", project / "distillation")
    with (project / "conf/recipe/tiny.yaml").open("w") as file:
        YAML().dump(_tiny_recipe(), file)
    write_params(project, TEACHERS)
    call(project, partial(recipe.main, ["tiny"]))
    for seed in SEEDS:
        call(project, partial(teacher.main, ["tiny", str(seed)]))
    for part in (1, 2):
        call(project, partial(write.main, [str(part)]))
    return project


def _tiny_recipe() -> dict[str, object]:
    sections: dict[str, dict[str, object]] = {"model": {}, "train": {"dropout": {}}}
    decided = load(RECIPES, RECIPES.root, ROOT).values
    for name, value in TINY.items():
        section, *path = name.split(".")
        if name in decided and section in sections and len(path) == 1:
            sections[section][path[0]] = value
    sections["train"]["epochs"] = 4
    return {"builds_on": "quick", **sections}


def call(project: Path, stage: Callable[[], int], expected: int = 0) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    with contextlib.chdir(project), patch.object(sending, "SenderProcess", lambda spool: DirectSender(spool, store())):
        assert stage() == expected


def test_teachers_are_trained_with_their_seeds_and_tracked(taught: Path) -> None:
    folder = taught / "artifacts/distillation/teachers"
    hashes = [load_model(folder / f"tiny-{seed}" / "model", "fused").sha256 for seed in SEEDS]
    assert len(set(hashes)) == 2
    assert all((folder / f"tiny-{seed}" / "training/history.csv").exists() for seed in SEEDS)
    with closing(sqlite3.connect(taught / "mlflow.db")) as database:
        seeds = database.execute("select value from params where key = 'train.seed'").fetchall()
        statuses = database.execute("select status from runs").fetchall()
        recipes = database.execute("select value from tags where key = 'recipe'").fetchall()
    assert recipes == [("tiny",)] * 2
    assert sorted(seeds) == [("3",), ("5",)]
    assert statuses == [("FINISHED",)] * 2


def test_parts_have_texts_of_their_own_and_the_same_at_each_start(taught: Path, tmp_path: Path) -> None:
    vocab = load_vocab(taught / "Datasets/encoded/vocab.json")
    text = load_soft_targets(taught / TEXT, vocab)
    assert len(text.ids) == 1800
    assert not np.array_equal(text.ids[:900], text.ids[900:])
    for part in ("1", "2"):  # each character has a distribution, also those of the first row and the last
        assert np.load(taught / TEXT / part / DISTRIBUTIONS).any(axis=1).all()
    before = {path: path.read_bytes() for path in sorted((taught / TEXT / "2").iterdir())}
    assert {path.name for path in before} == {*FILES, "SHA256SUMS"}
    call(taught, partial(write.main, ["2"]))
    assert {path: path.read_bytes() for path in sorted((taught / TEXT / "2").iterdir())} == before


def test_a_student_learns_from_them(taught: Path, tmp_path: Path) -> None:
    """With the same row of the corpus at each step, it is the better for what they wrote."""
    losses = {}
    for name, text in {"alone": "conf/corpus/nothing", "student": TEXT}.items():
        project = tmp_path / name
        shutil.copytree(taught, project)
        rows = 0 if name == "alone" else 12
        override = {"train.distillation.rows": rows, "train.distillation.text": text, "train.batch_size": 1 + rows}
        write_params(project, TEACHERS | override | {"train.context_len": 40})
        run_stages(project, "train", "evaluate", "sample")
        losses[name] = json.loads((project / "artifacts/evaluate/metrics.json").read_text())["stateful"][
            "nats_per_char"
        ]
        files = "".join(file.read_text() for file in project.glob("mlartifacts/**/lineage/train/files.json"))
        assert (f"{TEXT}/2/ids.npy" in files) == (
            name == "student"
        )  # the record of a student names what it learned from
    assert losses["student"] < losses["alone"] - 0.05


@pytest.mark.parametrize(
    ("override", "stage", "expected"),
    [
        ({}, partial(recipe.main, ["nosuch"]), "nosuch"),
        ({}, partial(teacher.main, ["nosuch", "1"]), "nosuch.json"),
        ({}, partial(recipe.main, ["student"]), "student needs teachers itself"),
        ({}, partial(recipe.main, ["begun"]), "begun begins from a model"),
        ({"teachers.recipes": []}, partial(write.main, ["1"]), "there are no teachers to write"),
        ({"teachers.seeds": [99]}, partial(write.main, ["1"]), "tiny-99"),
        ({"teachers.prompt_chars": 10**6}, partial(write.main, ["1"]), "teachers.prompt_chars: expected less than"),
    ],
)
def test_a_mistake_is_one_line(
    taught: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    override: dict[str, object],
    stage: Callable[[], int],
    expected: str,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(taught, project)
    write_params(project, TEACHERS | override)
    if "begun" in expected:
        (project / "conf/recipe/begun.yaml").write_text("builds_on: quick\ntrain: {initial: somewhere}\n")
    call(project, stage, expected=2)
    assert expected in caplog.text and len(caplog.records) == 1


def test_nothing_is_written_while_another_process_trains_here(taught: Path, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.chdir(taught), exclusive(CHECKOUT, "a training in this checkout"):
        assert write.main(["1"]) == 2
    assert "a training in this checkout" in caplog.text


@pytest.mark.parametrize(("changed", "code"), [({"teachers.parts": [1]}, 0), ({"teachers.temperature": 0.5}, 2)])
def test_parameters_that_change_while_a_part_is_written_are_not_recorded_as_its_own(
    taught: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: dict[str, object],
    code: int,
) -> None:
    """What no part depends on may change."""
    project = tmp_path / "project"
    shutil.copytree(taught, project)
    monkeypatch.setattr(write, "write_part", lambda *_: write_params(project, TEACHERS | changed))
    call(project, partial(write.main, ["1"]), expected=code)
    assert ("params.yaml: teachers.temperature was changed while stage text ran" in caplog.text) == bool(code)


@pytest.mark.slow
@needs_root
def test_a_full_disk_ends_the_writing_in_one_line(taught: Path, tmp_path: Path) -> None:
    """At once, and what was written before is still there."""
    project = tmp_path / "project"
    shutil.copytree(taught, project)
    write_params(project, TEACHERS | {"teachers.part_chars": BYTES})
    with small_disk(tmp_path / "small") as small:
        shutil.move(project / TEXT, small / "text")
        (project / TEXT).symlink_to(small / "text")
        before = {path: path.read_bytes() for path in small.rglob("*.*")}
        command = [*PYTHON, "pipeline.distillation.write", "1"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (2, f"ERROR: {TEXT}/1: No space left on device\n")
        assert {path: path.read_bytes() for path in small.rglob("*.*")} == before


def test_a_student_without_its_text_is_told_how_to_get_it(
    taught: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = tmp_path / "project"
    shutil.copytree(taught, project)
    shutil.rmtree(project / TEXT)
    (project / TEXT).mkdir()
    write_params(project, {"train.distillation.rows": 2, "train.distillation.text": TEXT})
    assert run_here(project, "train") == 2
    assert "expected the parts of a text that teachers wrote; `dvc repro` makes them" in caplog.text


@pytest.mark.slow
def test_dvc_makes_the_teachers_and_their_text_before_the_student(taught: Path, tmp_path: Path) -> None:
    """And knows nothing of them where the recipe has none."""
    project = tmp_path / "project"
    shutil.copytree(taught, project, ignore=shutil.ignore_patterns("artifacts"))
    student = {"train.distillation.rows": 2, "train.distillation.text": TEXT}
    write_params(project, TEACHERS | student)
    start_dvc(project)
    dvc(project, "config", "core.analytics", "false")
    printed = dvc(project, "repro")
    stages = re.findall(r"Running stage '(?:distillation/dvc.yaml:)?([^']*)'", printed)
    assert sorted(stages[-8:-3]) == ["recipe@tiny", "teacher@tiny-3", "teacher@tiny-5", "text@1", "text@2"]
    assert stages[-3:] == ["train", "evaluate", "sample"]
    assert "up to date" in dvc(project, "status")
    write_params(project, {})
    assert "distillation" not in dvc(project, "status")
    assert "distillation" not in dvc(project, "repro")
