"""The table of real texts: parts as the pipeline makes them, test scores that are kept, and where texts come from."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import corpora, trials
from benchmarks.corpora import HeldOut, measure, script_of
from benchmarks.projects import ROOT, shipped_params
from benchmarks.trials import append
from charlstm.files.documents import load_yaml

TEXT = "".join(f"{number} и {number * number} да.\n" for number in range(400)) + "Ж" + "да " * 20 + "€"


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeldOut:
    file = tmp_path / "some.txt"
    file.write_text(TEXT, encoding="utf-8", newline="")
    monkeypatch.setattr(corpora, "RECORDS", tmp_path / "records.jsonl")
    monkeypatch.setattr(corpora, "SPEEDS", tmp_path / "speeds.jsonl")
    return HeldOut(file, "quick")


def test_the_parts_are_tenths_and_what_training_lacks_is_replaced(one: HeldOut) -> None:
    train, val, test = one.parts
    assert (train, len(val)) == (TEXT[: int(len(TEXT) * 0.8)], int(len(TEXT) * 0.9) - int(len(TEXT) * 0.8))
    assert train + val + test == TEXT.replace("Ж", "\ufffd").replace("€", "\ufffd")
    assert [one.vocab.decode(part.ids) for part in one.encoded] == [train, val, test]


def test_a_score_of_the_test_part_is_kept(one: HeldOut, capsys: pytest.CaptureFixture[str]) -> None:
    """It would fail to train: the text gives fewer steps than the recipe warms up."""
    origin = one.origin()
    append(corpora.RECORDS, origin | {"code": "other code", "test_nats_per_char": 9.0})
    append(corpora.RECORDS, origin | {"test_nats_per_char": 1.5})
    before = corpora.RECORDS.read_bytes()
    assert measure(one)["test_nats_per_char"] == 1.5
    assert "some, quick: recorded, not scored again" in capsys.readouterr().out
    assert corpora.RECORDS.read_bytes() == before


def test_the_table_has_the_last_record_of_each(one: HeldOut) -> None:
    assert corpora.table_of_texts() == "nothing is recorded yet"
    bits = {"5-gram": 2.25, "6-gram": 2.5, "xz": 3.0}
    record = one.origin() | {
        "script": "Cyrillic", "num_bytes": 2_000_000, "num_chars": 1_100_000, "alphabet": 90,
        "num_parameters": 800_000, "epochs": 2, "train_seconds": 61.0,
        "test_nats_per_char": 1.25, "test_bits_per_char": 1.8034, "test_baselines": bits,
    }  # fmt: skip
    append(corpora.RECORDS, record | {"test_nats_per_char": 9.0})
    append(corpora.RECORDS, record)
    append(corpora.RECORDS, record | {"seed": "2", "train_seconds": 81.0, "test_nats_per_char": 1.35})
    append(corpora.RECORDS, record | {"changes": "train.epochs=3", "epochs": 3})
    append(corpora.SPEEDS, one.origin() | {"chars_per_second": 30_000})
    *_, row, changed = corpora.table_of_texts().splitlines()
    assert len(corpora.table_of_texts().splitlines()) == 4
    assert "| `quick` train.epochs=3 | 800,000 | 3 | 61 |  | 1.2500 |" in changed
    cells = "some | Cyrillic | 2.0 | 1,100,000 | 90 | `quick` | 800,000 | 2 | 71 | 30,000"
    assert row == f"| {cells} | 1.3000 ± 0.0707 (2 seeds) | 1.8034 | 2.2500 (5-gram) | 3.0000 |"


TINY = """\
model: {hidden_size: 16, feed_forward_size: 0, embedding_size: 8}
train: {batch_size: 4, context_len: 32, warmup_steps: 2, epochs: 1}
"""


@pytest.mark.slow
def test_a_text_is_trained_and_scored_once(one: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").write_text(shipped_params())
    monkeypatch.setattr(trials, "PROJECT", tmp_path)
    monkeypatch.setattr(corpora, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(corpora, "MODELS", tmp_path / "models")
    (tmp_path / "conf/recipe/tiny.yaml").write_text(TINY)
    file = tmp_path / "some.txt"
    record = measure(HeldOut(file, "tiny", epochs=2))
    assert record["epochs"] == 2
    assert measure(HeldOut(file, "tiny", epochs=2)) == record
    assert len(corpora.RECORDS.read_text().splitlines()) == 1
    assert HeldOut(file, "tiny", epochs=1).origin() != HeldOut(file, "tiny", epochs=2).origin()


@pytest.mark.parametrize(
    ("text", "script"),
    [("Text, 1!", "Latin"), ("Да yes нет", "Cyrillic"), ("天地玄黄 a", "Han"), ("שלום", "Hebrew"), ("12", "none")],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


def test_every_text_of_the_records_says_where_it_comes_from() -> None:
    sources = load_yaml(ROOT / "benchmarks/records/corpora.yaml")
    files = [ROOT / f"benchmarks/records/{name}.jsonl" for name in ("corpora", "budgets", "searches")]
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert {"shakespear", "computers"} <= {record["corpus"] for record in records}
    for record in records:
        of_first = re.fullmatch(r"(.*)-\d+", record["corpus"])  # characters of a text
        source = sources[of_first[1] if of_first else record["corpus"]]
        assert of_first or record["sha256"] == source["sha256"], record["corpus"]
    for name, source in sources.items():
        assert set(source) == {"what", "source", "license", "made", "sha256"}, name
        assert re.fullmatch("[0-9a-f]{64}", source["sha256"])
