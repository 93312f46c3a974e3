"""Which reviewed models are seeds of one recipe, what is said of them, and where the blocks are found."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reviews import HOSTILE, Page, review

from charlstm.evaluation.blocks import Blocks, parse_blocks
from charlstm.evaluation.documents import write_document
from charlstm.history import write_csv
from charlstm.report.comparison import comparison_of, recipes_of, verdicts
from charlstm.report.document import Candidate, Loss, ReviewDocument, read_review
from pipeline.commands.review import review as write_review

NO_BLOCKS = "Without the loss by blocks, no interval can be given. `dvc repro evaluate` writes it for"


def document(loss: float, sha256: str, **parameters: object) -> ReviewDocument:
    losses = {"stateful": Loss(nats_per_char=loss, bits_per_char=1, perplexity=2, num_chars=14_999)}
    return review([], losses=losses, model_sha256=sha256, parameters={f"train.{k}": v for k, v in parameters.items()})


def blocks(loss: float, num_blocks: int = 30) -> Blocks:
    num_chars = np.array([499] + [500] * (num_blocks - 1))
    return Blocks(np.arange(num_blocks) * 500, num_chars, num_chars * loss)


def candidate(label: str, loss: float, **parameters: object) -> Candidate:
    return Candidate(label, document(loss, label, **parameters), blocks(loss))


def test_models_that_differ_in_the_seed_alone_are_one_recipe() -> None:
    models = [
        candidate("a", 1.40, seed=1, rate=0.1),
        candidate("b", 1.50, seed=1, rate=0.2),
        candidate("c", 1.42, seed=2, rate=0.1),
        candidate("d", 1.51, seed=3, rate=0.2),
        candidate("e", 1.60, seed=1, rate=0.3),
    ]
    # What decides only how texts are drawn is no recipe.
    parameters = {**models[2].document.parameters, "sample.num_chars": 7}
    models[2] = models[2]._replace(document=models[2].document.model_copy(update={"parameters": parameters}))
    found = recipes_of(models)
    assert [(one.name, one.losses) for one in found] == [
        ("rate 0.1 (2 seeds)", [1.40, 1.42]),
        ("rate 0.2 (2 seeds)", [1.50, 1.51]),
        ("rate 0.3", [1.60]),
    ]
    first, second = verdicts(models)
    assert first.startswith("rate 0.1 (2 seeds) is lower than rate 0.2 (2 seeds) by 0.0950 ± 0.0000 nats")
    assert second.startswith("rate 0.1 (2 seeds) is lower than rate 0.3 by 0.1900 ± 0.0000 nats")


def test_other_corpora_are_other_recipes() -> None:
    models = [candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=2)]
    models[1] = models[1]._replace(document=models[1].document.model_copy(update={"corpus_sha256": "0"}))
    assert [one.name for one in recipes_of(models)] == ["a", "b"]


def test_seeds_of_one_recipe_are_told_apart_by_nothing() -> None:
    assert verdicts([candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=2), candidate("c", 1.6, seed=3)]) == [
        "3 seeds of one recipe: 1.5000 nats per character, standard deviation 0.1000. Nothing but the seed tells them "
        "apart."
    ]


def test_nothing_is_said_of_different_texts_and_of_one_model() -> None:
    first, second = candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=1, rate=0.2)
    assert len(verdicts([first, second])) == 1
    other = second.document.model_copy(update={"validation_sha256": "0" * 64})
    assert verdicts([first, second._replace(document=other)]) == verdicts([first]) == []
    unmeasured = second.document.model_copy(update={"losses": {}})
    assert verdicts([first, second._replace(document=unmeasured)]) == []


@pytest.mark.parametrize("known", [None, blocks(1.5, 31)], ids=["missing", "other blocks"])
def test_without_the_blocks_of_a_model_it_says_how_to_get_them(known: Blocks | None) -> None:
    first, second = candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=1, rate=0.2)._replace(blocks=known)
    lower, missing = verdicts([first, second])
    assert lower.startswith("a is lower than rate 0.2 by 0.1000 nats per character.") and "unknown" in lower
    assert missing == f"{NO_BLOCKS} rate 0.2."


def test_a_short_text_has_no_interval() -> None:
    short = [candidate(str(loss), loss, seed=1, rate=loss)._replace(blocks=blocks(loss, 19)) for loss in (1.4, 1.5)]
    assert verdicts(short)[1] == "This text has 19 blocks, and an interval takes 20: no interval is given."


def test_the_page_begins_with_it() -> None:
    first, second = candidate(HOSTILE, 1.4, seed=1, rate=HOSTILE), candidate("b", 1.5, seed=1, rate=0.2)
    page = comparison_of([first, second])
    assert "is lower than rate 0.2 by 0.1000" in page.partition("<nav>")[0]
    assert page.count("<script") == 1 and "<img" not in page and "may be chance" not in comparison_of([first])


def said(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the command prints after the page's path; the page has it, too."""
    capsys.readouterr()
    write_review(models, tmp_path / "page.html")
    path, *lines = capsys.readouterr().out.splitlines()
    assert path == str(tmp_path / "page.html")
    text = "".join(Page((tmp_path / "page.html").read_text("utf-8")).texts)
    assert [line for line in lines if f"\n{line.replace('`', '')}\n" not in text] == []
    return lines


@pytest.fixture
def other(copy: Path, tmp_path: Path) -> Path:
    """A review of another recipe that is worse by 0.1, with its blocks beside it; we are in a project."""
    folder = tmp_path / "other"
    found = read_review(copy / "artifacts/samples/review.json")
    table = parse_blocks((copy / "artifacts/evaluate/blocks.csv").read_text(), "")
    worse = table._replace(nats=table.nats + 0.1 * table.num_chars)
    loss = found.losses["stateful"].model_copy(update={"nats_per_char": worse.nats_per_char})
    changes = {
        "parameters": {**found.parameters, "train.muon.learning_rate": 0.05},
        "losses": {**found.losses, "stateful": loss},
        "model_sha256": "0" * 64,
    }
    write_document(folder / "review.json", found.model_copy(update=changes))
    write_csv(folder / "blocks.csv", pd.DataFrame(worse._asdict()))
    return folder


@pytest.mark.parametrize("where", ["run", "commit", "project", "file"])
def test_the_command_finds_the_blocks(
    where: str, copy: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a run in MLflow, of a commit in DVC's cache, of a project or a file beside. The text is too short for an
    interval: that is said only where both are known."""
    here = copy / "artifacts/evaluate/blocks.csv"
    name = {"run": "HEAD", "commit": "HEAD", "project": str(copy), "file": str(tmp_path / "alone/review.json")}[where]
    if where == "run":
        here.unlink()
        shutil.rmtree(copy / ".dvc/cache")
    elif where == "commit":
        here.unlink()
        (copy / "mlflow.db").unlink()
    elif where == "file":
        (tmp_path / "alone").mkdir()
        shutil.copy(copy / "artifacts/samples/review.json", tmp_path / "alone")
        shutil.copy(here, tmp_path / "alone")
    lower, blocks_known = said([name, str(other)], tmp_path, capsys)
    assert "muon.learning_rate 0.06" in lower and "by 0.1000 nats per character. That may be chance" in lower
    assert "This text has 2 blocks" in blocks_known
