"""A run's tags and artifacts about its origin, without secrets."""

from pathlib import Path

import pytest

from charlstm.params import load_params
from pipeline.lineage.mlflow_run import page_tags
from pipeline.lineage.provenance import provenance_tags
from pipeline.run.dvc import load_paths
from tests.support.projects import write_params

NEW = "pipeline/run/brand_new.py"


def found() -> dict[str, str]:
    return provenance_tags(load_params(Path("params.yaml")), load_paths())


def test_results_that_are_away_or_new_leave_a_commit_clean(copy: Path) -> None:
    # DVC removes results before a stage.
    (copy / "artifacts/train/metrics.json").unlink()
    (copy / "dvc.lock").write_text("stages: {download: {}}\n")
    assert found()["git_dirty"] == "no"


@pytest.mark.parametrize("name", ["params.yaml", "charlstm/model/gates.py", NEW])
def test_changed_parameters_or_new_code_do_not(copy: Path, name: str) -> None:
    with (copy / name).open("a") as file:
        file.write("# changed\n")
    assert found()["git_dirty"] == "yes"


def test_a_git_that_fails_does_not_call_the_tree_clean(copy: Path) -> None:
    (copy / ".git/index").write_bytes(b"damaged")
    assert found()["git_dirty"] == "unknown"


def test_the_experiment_and_its_baseline_are_tags(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    assert (found()["dvc_exp_name"], found()["dvc_exp_baseline"]) == ("faster", "c0ffee")


def test_names_tell_runs_apart(copy: Path) -> None:
    write_params(copy, {"train.epochs": 3})
    params = load_params(Path("params.yaml"))

    def name(corpus: str, num_parameters: int | None = None, loss: float | None = None) -> str:
        return page_tags(params, {"corpus": corpus}, num_parameters, loss)["mlflow.runName"]

    assert name("a.txt").endswith(" · seed 1")
    assert name("a.txt", 812_345, 1.29999) == f"{name('a.txt')[:-9]} · 0.81M · seed 1 · 1.3000"
    assert name("FALLBACK package==1") == f"FALLBACK package==1 · {name('a.txt')}"
