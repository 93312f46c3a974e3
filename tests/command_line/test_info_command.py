"""`charlstm info`: facts from the records of this very model."""

import json
import shutil
from pathlib import Path

from tests.support.commands import Run
from tests.support.projects import ROOT, shipped_params
from tests.support.reference import contents
from tests.support.stages import commit_of


def test_a_copy_with_a_card_knows_all_of_it_anywhere(
    run: Run, trained: Path, tmp_path: Path, learned: Path
) -> None:
    """The model's own folder does not change: DVC owns its bytes."""
    project = shutil.copytree(trained, tmp_path / "project")
    shutil.copytree(ROOT / "conf", project / "conf", dirs_exist_ok=True)
    model = project / "artifacts/model"
    before = contents(model)
    copy = tmp_path / "elsewhere"
    assert run("export", "folder", "--model", model, "-o", copy) == (0, f"{copy}\n", "")
    assert contents(model) == before
    assert {name: one for name, one in contents(copy).items() if name != "card.json"} == before
    known = json.loads(run("info", model, "--json")[1])
    # The parameters may be damaged, or those of the next model.
    for params in (shipped_params(), "download: ["):
        (project / "params.yaml").write_text(params)
        assert json.loads(run("info", model, "--json")[1]) == known
    moved = shutil.copytree(copy, tmp_path / "moved")
    shutil.rmtree(project)
    found = json.loads(run("info", moved, "--json")[1])
    for name in ("model_sha256", "corpus_sha256", "recipe", "losses", "params"):
        assert found[name] == known[name] and found[name]
    assert found["recorded_in"] == "card.json"
    for name in before:  # files of another model
        shutil.copy(learned / name, moved)
    assert json.loads(run("info", moved, "--json")[1])["losses"] is None
    (copy / "card.json").write_text("[" * 100_000)
    assert json.loads(run("info", copy, "--json")[1])["recorded_in"] is None


def test_info_names_the_commit_that_brought_the_model(
    run: Run, recorded: Path, tmp_path: Path, learned: Path
) -> None:
    project = shutil.copytree(recorded, tmp_path / "project")
    model = project / "artifacts/model"
    card = json.loads(run("info", model, "--json")[1])
    assert card["commit"] == commit_of(project, "results")
    run("export", "folder", "--model", model, "-o", tmp_path / "copy")
    for folder in (model, tmp_path / "copy"):
        assert f" {card['commit']}\n" in run("info", folder)[1]
    assert (card["corpus"], card["params"]["model.hidden_size"]) == ("shakespear", "16")
    assert set(card["losses"]) == {"windowed_20", "stateful"}
    shutil.rmtree(model)
    shutil.copytree(learned, model)
    assert json.loads(run("info", model, "--json")[1])["recorded_in"] is None
