"""Which reviewed models are seeds of one recipe, what is said of them, and where the blocks are found."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reviews import HOSTILE, Page, review
from stages import run_stages

from benchmarks.projects import write_params
from charlstm.errors import CharlstmError
from charlstm.evaluation.blocks import Blocks, parse_blocks
from charlstm.evaluation.documents import write_document
from charlstm.history import write_csv
from charlstm.report.comparison import comparison_of
from charlstm.report.document import Candidate, Loss, ReviewDocument, read_review
from charlstm.report.verdicts import recipes_of, verdicts
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
        ("e", [1.60]),
    ]
    first, second = verdicts(models)
    assert first.startswith("by stateful: rate 0.1 (2 seeds) is lower than rate 0.2 (2 seeds) by 0.0950 ± 0.0000 nats")
    assert second.startswith("by stateful: rate 0.1 (2 seeds) is lower than e by 0.1900 ± 0.0000 nats")


def test_recipes_are_called_by_their_names_where_much_differs() -> None:
    models = [
        candidate(f"{recipe} {seed}", 1.4 + seed / 100, seed=seed, **dict.fromkeys("abcd", recipe))._replace(
            recipe=recipe
        )
        for recipe in ("quick", "best")
        for seed in (1, 2)
    ]
    assert [one.name for one in recipes_of(models)] == ["quick (2 seeds)", "best (2 seeds)"]


def test_recipes_that_would_have_one_name_are_called_by_their_models() -> None:
    """Where more differs than is named."""
    many = dict.fromkeys("abcdef", 1)
    recipes = {"x": many, "y": many | {"e": 2}, "z": dict.fromkeys("abcdef", 2)}
    names = [f"{recipe}{seed}" for recipe in recipes for seed in (1, 2)]
    models = [candidate(name, 1.4, seed=int(name[1]), **recipes[name[0]]) for name in names]
    assert [one.name for one in recipes_of(models)] == ["x1 and x2", "y1 and y2", "a 2, b 2, c 2, 3 more (2 seeds)"]


def test_other_corpora_are_other_recipes() -> None:
    models = [candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=2)]
    models[1] = models[1]._replace(document=models[1].document.model_copy(update={"corpus_sha256": "0"}))
    assert [one.name for one in recipes_of(models)] == ["a", "b"]


def test_the_same_seed_twice_is_no_second_training() -> None:
    """Other code or another machine made the other one: nothing says that they are alike."""
    found = recipes_of([candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=1), candidate("c", 1.6, seed=2)])
    assert [one.name for one in found] == ["a", "b", "c"]


def test_the_same_model_is_no_second_training() -> None:
    one = candidate("a", 1.4, seed=1)
    assert verdicts([one, one._replace(label="b")]) == ["a and b: no difference, they are the same model."]
    same, other = verdicts([one, one._replace(label="b"), candidate("c", 1.5, seed=1, rate=0.2)])
    assert same.startswith("a and b: no difference") and "a is lower than c" in other and "One seed each" in other


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


@pytest.mark.parametrize(
    "known", [None, blocks(1.45), blocks(1.5, 31)], ids=["missing", "of another model", "other blocks"]
)
def test_without_the_blocks_of_a_model_it_says_how_to_get_them(known: Blocks | None) -> None:
    first, second = candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=1, rate=0.2)._replace(blocks=known)
    lower, missing = verdicts([first, second])
    assert lower.startswith("by stateful: a is lower than b by 0.1000 nats per character on this text. One seed each")
    assert missing == f"{NO_BLOCKS} b."


def test_a_short_text_has_no_interval() -> None:
    short = [candidate(str(loss), loss, seed=1, rate=loss)._replace(blocks=blocks(loss, 19)) for loss in (1.4, 1.5)]
    assert verdicts(short)[1] == "This text has 19 blocks, and an interval takes 20: no interval is given."


def test_the_page_has_it_as_text() -> None:
    labeled = [("a", review([])), ("b", review([]))]
    page = comparison_of(labeled, [HOSTILE, "b is lower than a", "run `dvc repro`"])
    assert page.count("<script") == 1 and "<img" not in page and "<li><bdi>b is lower than a</bdi></li>" in page
    assert "<li><bdi>run <code>dvc repro</code></bdi></li>" in page
    assert '<a href="#better">' in page and "Is it better?" in Page(page).texts
    assert "Is it better?" not in comparison_of(labeled)


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
    assert "muon.learning_rate 0.06" in lower and "by 0.1000 nats per character on this text. One seed each" in lower
    assert "This text has 2 blocks" in blocks_known


def test_an_older_model_has_no_blocks_and_all_else(
    copy: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other / "blocks.csv").unlink()
    lower, missing = said(["HEAD", str(other)], tmp_path, capsys)
    assert "by 0.1000 nats per character" in lower
    assert missing == f"{NO_BLOCKS} other \N{MIDDLE DOT} muon.learning_rate 0.05."
    assert "<h2>Samples</h2>" in (tmp_path / "page.html").read_text("utf-8")


def test_a_line_on_the_terminal_is_one_line_without_control_characters(
    copy: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_review(other / "review.json")
    parameters = {**found.parameters, "train.precision": "\x1b[2J\r\n\u202ex"}
    write_document(other / "review.json", found.model_copy(update={"parameters": parameters}))
    capsys.readouterr()
    write_review(["HEAD", str(other)], tmp_path / "page.html")
    path, lower, short = capsys.readouterr().out.split("\n")[:3]
    assert r'precision "\u001b[2J\r\n[U+202E]x"' in lower and short.startswith("This text has 2 blocks")
    assert not {"\x1b", "\r", "\u202e"} & set(lower)


def test_a_damaged_table_of_blocks_is_refused(copy: Path, other: Path, tmp_path: Path) -> None:
    (other / "blocks.csv").write_bytes(b"\xff\0")
    with pytest.raises(CharlstmError, match="blocks.csv: expected a table of start, num_chars, nats"):
        write_review(["HEAD", str(other)], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_a_second_seed_makes_a_group(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = []
    for seed in (1, 2, 3):
        project = tmp_path / f"seed-{seed}"
        shutil.copytree(copy, project, symlinks=True)
        write_params(project, {"train.seed": seed})
        run_stages(project, "train", "evaluate", "sample")
        models.append(str(project))
    (line,) = said(models, tmp_path, capsys)
    assert line.startswith("3 seeds of one recipe: ")
