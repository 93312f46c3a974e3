"""The table of texts and times: what is proposed is trained, scored once, and kept with its plan."""

from pathlib import Path

import pytest

from benchmarks import budgets, corpora
from pipeline.new.proposal import USED

TEXT = "".join(f"{number} and {number * number} are numbers.\n" for number in range(300))


def test_what_is_proposed_is_trained_and_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, slowness = tmp_path / "numbers.txt", 1.0
    file.write_text(TEXT)
    monkeypatch.setattr(budgets, "RECORDS", tmp_path / "budgets.jsonl")
    monkeypatch.setattr(budgets, "PLANS", tmp_path / "plans")
    monkeypatch.setattr(budgets, "TIMINGS", tmp_path / "timings.json")
    monkeypatch.setattr(corpora, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(corpora, "MODELS", tmp_path / "models")

    monkeypatch.setattr(budgets, "step_seconds", lambda *_: slowness / 200)
    quick = budgets.planned(file, 0.05, None)
    slowness = 2.0
    assert budgets.planned(file, 0.05, None) == quick, "the machine was faster once"
    budgets.TIMINGS.unlink()
    slow = budgets.planned(file, 0.05, None)
    assert max(quick["seconds"], slow["seconds"]) <= 60 * 0.05 * USED
    assert quick["recipe"]["train.epochs"] > slow["recipe"]["train.epochs"]

    monkeypatch.setattr("sys.argv", ["budgets", str(file), "--minutes", "0.05"])
    assert budgets.main() == 0
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    cells = dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (header, row)), strict=True))
    assert cells["text"] == "numbers" and cells["minutes"] == "0.05" and cells["begins from"] == "nothing"
    assert int(cells["epochs"]) == slow["recipe"]["train.epochs"]
    before = budgets.RECORDS.read_bytes()
    slowness = 1.0
    assert budgets.main() == 0
    assert budgets.RECORDS.read_bytes() == before and "recorded, not scored again" in capsys.readouterr().out

    monkeypatch.setattr("sys.argv", ["budgets", str(file), "--minutes", "0.05", "--dynamic"])
    assert cells["dynamic"] == ""
    assert budgets.main() == 0
    row = capsys.readouterr().out.splitlines()[-1]
    followed = dict(zip(cells, [cell.strip() for cell in row.split("|")[1:-1]], strict=True))
    assert 0 < float(followed["dynamic"]) < float(cells["test, bits/char"]), "numbers that grow are easily followed"
    assert followed | {"dynamic": ""} == cells, "a text has one row"
