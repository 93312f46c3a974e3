"""`charlstm sync` after `git pull` and `dvc pull`, with a real remote and a second clone."""

import json
import shutil
from pathlib import Path

import pytest

from charlstm.tracking.client import Reader, Store, TrackedRun
from pipeline.run.store import store
from tests.support.commands import Run
from tests.support.stages import dvc

OF_THE_MACHINE = (
    "system/",
    "train/speed",
    "train/seconds",
    "train/chars_",
)  # not in any file


@pytest.mark.slow
def test_a_colleague_who_pulls_has_the_review_the_trace_and_the_run(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """DVC brings the files and git the losses. The new run is complete, and created once."""
    project = shutil.copytree(recorded, tmp_path / "project", symlinks=True)
    theirs = tmp_path / "theirs"
    dvc(project, "remote", "add", "-d", "storage", str(tmp_path / "remote"))
    dvc(project, "git", "commit", "-qam", "where files are shared")
    dvc(project, "push")
    dvc(project, "git", "clone", "-q", str(project), str(theirs))
    monkeypatch.chdir(theirs)
    assert "the model of this checkout is left out" in run("sync")[1]  # before `dvc pull`
    dvc(theirs, "pull")
    assert run("review", "HEAD") == (0, "review.html\n", "") and Path("review.html").is_file()
    traced = json.loads(run("trace", "HEAD", "--json")[1])["traces"][0]
    assert traced["run"] is None and set(traced["losses"]) >= {"stateful", "windowed_20"}
    for _ in range(2):
        assert run("sync") == (0, "sent to MLflow: 1\n", "")
    stores = (Store(f"sqlite:///{project}/mlflow.db", "", None), store())
    (first,), (made,) = (Reader(one).all() for one in stores)

    def metrics(found: TrackedRun) -> dict[str, float]:
        named = found.metrics.items()
        return {name: one for name, one in named if not name.startswith(OF_THE_MACHINE)}

    assert metrics(first) == metrics(made)
    assert made.params == first.params and made.tags["made_from"] == "files"
    assert Reader(store()).text(made, "samples/all.txt")
    assert not [name for name in made.tags if name.startswith(("hardware.", "versions."))]
    assert run("info", "models:/charlstm-shakespear@champion")[0] == 0
    Path("artifacts/evaluate/metrics.json").write_text("{}")
    assert "different from dvc.lock: artifacts/evaluate/metrics.json;" in run("sync")[1]
