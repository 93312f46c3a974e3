"""`charlstm info`: what the records of this very model say, and nothing else."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.commands import Run
from tests.support.projects import ROOT, shipped_params


def test_a_copy_with_a_card_knows_all_of_it_anywhere(
    run: Run, trained: Path, tmp_path: Path, learned: Path
) -> None:
    """The model's own folder stays as it is: its bytes are DVC's."""
    project = shutil.copytree(trained, tmp_path / "project")
    shutil.copytree(ROOT / "conf", project / "conf", dirs_exist_ok=True)
    before = {file.name: file.read_bytes() for file in (project / "artifacts/model").iterdir()}
    copy = tmp_path / "elsewhere"
    assert run("export", "folder", "--model", project / "artifacts/model", "-o", copy) == (
        0,
        f"{copy}\n",
        "",
    )
    assert {
        file.name: file.read_bytes() for file in (project / "artifacts/model").iterdir()
    } == before
    assert {
        file.name: file.read_bytes() for file in copy.iterdir() if file.name != "card.json"
    } == before
    known = json.loads(run("info", project / "artifacts/model", "--json")[1])
    for params in (shipped_params(), "download: ["):  # of the next model already, or damaged
        (project / "params.yaml").write_text(params)
        assert json.loads(run("info", project / "artifacts/model", "--json")[1]) == known
    moved = shutil.copytree(copy, tmp_path / "moved")
    shutil.rmtree(project)
    found = json.loads(run("info", moved, "--json")[1])
    names = ("model_sha256", "corpus_sha256", "recipe", "losses", "params", "commit")
    assert {name: found[name] for name in names} == {name: known[name] for name in names}
    assert found["losses"] and found["corpus_sha256"] and found["params"] and found["recipe"]
    assert found["recorded_in"] == "card.json"
    for name in before:  # of another model
        shutil.copy(learned / name, moved)
    assert json.loads(run("info", moved, "--json")[1])["losses"] is None
    for damaged in ("{", "[" * 100_000):
        (copy / "card.json").write_text(damaged)
        assert json.loads(run("info", copy, "--json")[1])["recorded_in"] is None


def test_info_names_the_commit_that_brought_the_model(
    run: Run, recorded: Path, tmp_path: Path, learned: Path
) -> None:
    project = shutil.copytree(recorded, tmp_path / "project")
    card = json.loads(run("info", project / "artifacts/model", "--json")[1])
    results = subprocess.run(
        ["git", "rev-parse", "results"], cwd=project, capture_output=True, text=True
    )
    assert card["commit"] == results.stdout.strip()
    run("export", "folder", "--model", project / "artifacts/model", "-o", tmp_path / "copy")
    for folder in (project / "artifacts/model", tmp_path / "copy"):
        assert f" {card['commit']}\n" in run("info", folder)[1]
    assert (card["corpus"], card["params"]["model.hidden_size"]) == ("shakespear", "16")
    assert set(card["losses"]) == {"windowed_20", "stateful"}
    shutil.rmtree(project / "artifacts/model")
    shutil.copytree(learned, project / "artifacts/model")
    assert json.loads(run("info", project / "artifacts/model", "--json")[1])["recorded_in"] is None
