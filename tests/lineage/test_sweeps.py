"""`charlstm sweep`: the experiments of a commit, the best first, and the seeds that are missing."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from stages import dvc

from benchmarks.projects import write_params
from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import Blocks
from charlstm.files.documents import load_yaml
from pipeline.commands.sweep import OWN, Trial, measured, missing_seeds, read_results, show, sweep

LOSSES = {0.02: 1.52, 0.3: 1.49, 1e-4: 1.61}


def add_experiment(project: Path, name: str, loss: float, **params: object) -> None:
    """One that began from HEAD."""
    head, losses = dvc(project, "git", "rev-parse", "HEAD").strip(), project / "artifacts/evaluate/metrics.json"
    write_params(project, {f"train.{key}": value for key, value in params.items()})
    losses.write_text(json.dumps({"stateful": {"nats_per_char": loss}}))
    dvc(project, "git", "add", "-A")
    tree = dvc(project, "git", "write-tree").strip()
    commit = dvc(project, "git", "commit-tree", tree, "-p", "HEAD", "-m", "an experiment").strip()
    dvc(project, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
    dvc(project, "git", "reset", "-q", "--hard")


@pytest.fixture
def project(copy: Path) -> Path:
    """With three experiments that began from its HEAD."""
    for number, (rate, loss) in enumerate(LOSSES.items()):
        add_experiment(copy, f"number-{number}", loss, learning_rate=rate)
    return copy


def result(rate: float, seed: int, loss: float = 1.5, name: str = "one", **changes: Any) -> Trial:  # noqa: ANN401  # fields
    blocks = Blocks(np.arange(30) * 500, np.full(30, 500), np.full(30, 500 * loss))
    found = Trial(name, "done", frozenset({("train.learning_rate", rate)}), seed, ("text",), loss, blocks)
    return found._replace(**changes)


def rows_of(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_the_best_is_first_and_the_model_that_one_has_is_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = json.loads((project / "artifacts/evaluate/metrics.json").read_text())["stateful"]["nats_per_char"]
    rate = load_yaml(project / "params.yaml")["train"]["learning_rate"]
    sweep("HEAD", project / "sweep.png")
    out = capsys.readouterr().out
    assert out.startswith("3 done, 0 running, 0 queued, 0 failed\n")
    expected = [
        ["learning_rate 0.3", "number-1", "1", "1.4900"],
        ["learning_rate 0.02", "number-0", "1", "1.5200"],
        ["learning_rate 0.0001", "number-2", "1", "1.6100"],
        [f"learning_rate {rate}", "workspace", "1", f"{own:.4f}"],
    ]
    assert [row[:4] for row in rows_of(out)] == sorted(expected, key=lambda row: row[3])
    assert [row[4].split(" ")[0] for row in rows_of(out)][1:3] == ["0.0300", "0.1200"]
    height, width, _ = imread(project / "sweep.png").shape
    assert height > 200 and width > 200


def test_a_result_counts_only_with_the_parameters_that_made_it(project: Path) -> None:
    def names() -> list[str]:
        return [one.name for alike in measured(read_results("HEAD")) for one in alike if "number" not in one.name]

    write_params(project, {"train.learning_rate": 0.7})
    assert names() == ["HEAD"]
    dvc(project, "git", "commit", "-qam", "parameters that nothing was trained by")
    add_experiment(project, "number-3", 1.4, learning_rate=0.1)
    assert names() == []
    before = read_results("HEAD~1")
    assert [one.name for one in before if one.state == OWN] == ["HEAD~1"]
    assert len(measured(before)[0]) == 4


def test_seeds_of_one_recipe_are_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    results = [result(0.3, seed, 1.49 + seed / 1000, f"a{seed}") for seed in (1, 2, 3)]
    results += [result(0.01, seed, 1.4905 + seed / 1000, f"b{seed}") for seed in (1, 2, 3)]
    results += [result(1e-4, seed, 1.61 + seed / 1000, f"c{seed}") for seed in (1, 2, 3)]
    show(results, tmp_path / "sweep.png")
    out = capsys.readouterr().out
    assert [row[1:4] for row in rows_of(out)] == [
        ["a1, a2, a3", "3", "1.4920 ± 0.0010"], ["b1, b2, b3", "3", "1.4925 ± 0.0010"],
        ["c1, c2, c3", "3", "1.6120 ± 0.0010"],
    ]  # fmt: skip
    near, far = [line for line in out.splitlines() if line.startswith("learning_rate 0.3 is lower")]
    assert "learning_rate 0.01 by 0.0005" in near and "may be chance" in near
    assert "learning_rate 0.0001 by 0.1200" in far and "more than chance" in far
    assert "learning_rate: the best value, 0.3, is at the grid's edge; try larger ones" in out
    assert (tmp_path / "sweep.png").is_file()


def test_losses_of_different_texts_are_apart() -> None:
    here, there = [result(0.3, seed) for seed in (1, 2)], result(0.3, 1, text=("other",))
    assert measured([here[0], there, here[1]]) == [[there], here]
    assert measured([result(0.1, 1, math.nan)]) == []


def test_the_seeds_that_are_missing() -> None:
    wanted = result(0.1, 9, math.nan, state=OWN)
    there = [result(0.1, 2), result(0.1, 4, state="queued"), result(0.1, 1, math.nan, state="failed"), result(0.3, 3)]
    assert missing_seeds(5, [wanted, *there]) == [1, 3, 5]
    assert missing_seeds(2, [wanted._replace(text=("other",)), *there]) == [1, 2]
    assert missing_seeds(2, [wanted, result(0.1, 1, state=OWN), *there]) == []


def test_what_cannot_be_shown_or_trained_is_an_error(copy: Path) -> None:
    with pytest.raises(CharlstmError, match="nothing: .*unknown Git revision"):
        sweep("nothing", copy / "none.png")
    with pytest.raises(CharlstmError, match="^HEAD~1: expected HEAD, from which --seeds trains"):
        sweep("HEAD~1", copy / "none.png", 2)


@pytest.mark.slow
def test_only_seeds_that_are_missing_are_trained(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")

    def states(number: int) -> list[str]:
        """Of the experiments, when the queue has ended."""
        sweep("HEAD", copy / "sweep.png", number)
        deadline, found = time.monotonic() + 300, ["queued"]
        while {"queued", "running"} & set(found):
            assert time.monotonic() < deadline
            time.sleep(2)
            with contextlib.suppress(CharlstmError):  # DVC does not answer while a worker makes an experiment's folder
                found = [one.state for one in read_results("HEAD") if one.state != OWN]
        return found

    assert states(2) == ["done"] == states(2)  # the commit itself has seed 1
    ours, _, theirs = read_results("HEAD")
    sweep("HEAD", copy / "sweep.png")
    (row,) = rows_of(capsys.readouterr().out.rpartition("1 done")[2])
    assert theirs.seed == 2 and sorted(row[1].split(", ")) == sorted([ours.name, theirs.name])
    assert row[3].startswith(f"{(ours.loss + theirs.loss) / 2:.4f} ± ")

    write_params(copy, {"train.learning_rate": 1e30})  # not committed
    assert sorted(states(1)) == ["done", "failed"]
    sweep("HEAD", copy / "sweep.png")
    assert "1 failed\nfailed: " in capsys.readouterr().out
