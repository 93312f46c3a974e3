"""A run's tags and artifacts about its origin, without secrets."""

from pathlib import Path

import pytest

from charlstm.params import load_params
from pipeline.lineage import provenance
from pipeline.run.dvc import load_paths

NEW = "pipeline/run/brand_new.py"


def found() -> dict[str, str]:
    return provenance.tags(load_params(Path("params.yaml")), load_paths())


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
