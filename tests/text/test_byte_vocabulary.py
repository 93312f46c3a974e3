"""Text as bytes: there and back, in files, and through all stages and commands."""

import contextlib
import hashlib
import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlstm
from charlstm.errors import VocabularyError
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import stateful
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.encoded import EncodedText, text_sha256
from charlstm.text.encoded_files import load_ids
from charlstm.text.vocabulary import Decoder, Vocab
from charlstm.text.vocabulary_file import load_vocab
from charlstm.unknown_characters import replaced
from tests.support.projects import make_project
from tests.support.stages import run_stages

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VOCAB = ByteVocab()
CORPUS = "雪が降る。\U0001f600 café\r\n山水の道、\U0001f469\u200d\U0001f467。\n" * 120


@given(TEXTS, st.integers(1, 5))
def test_decoding_undoes_encoding_in_pieces_too(text: str, size: int) -> None:
    ids, decoder = VOCAB.encode(text), Decoder(VOCAB)
    assert VOCAB.decode(ids) == VOCAB.decode(ids.tolist()) == text
    assert (
        "".join(decoder.decode(ids[at : at + size].tolist()) for at in range(0, len(ids), size))
        == text
    )
    assert ids.tobytes() == text.encode() and VOCAB.num_ids(text) == len(ids)
    assert text_sha256(ids, VOCAB) == hashlib.sha256(text.encode()).hexdigest()


def test_only_what_is_no_character_is_unknown() -> None:
    assert not VOCAB.unknown("".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])))
    assert VOCAB.unknown("a\udcffb\udcff") == {"\udcff": 2}
    for refused in (
        lambda: VOCAB.encode("a\udcffb\udcff"),
        lambda: VOCAB.decode(VOCAB.encode("a雪")[:3]),
    ):
        with pytest.raises(VocabularyError):
            refused()
    assert replaced("a\ud800", VOCAB) == "a\ufffd"


def test_a_file_says_which_vocabulary_it_is(tmp_path: Path) -> None:
    for vocab in (VOCAB, Vocab.of("abc")):
        vocab.save(tmp_path / "vocab.json")
        assert (
            load_vocab(tmp_path / "vocab.json")
            == vocab
            != (Vocab.of("abc") if vocab is VOCAB else VOCAB)
        )
    assert "unit" not in json.loads((tmp_path / "vocab.json").read_text())  # as it always was
    for content in ("{}", "[]", '{"unit": "word"}', "{"):
        (tmp_path / "vocab.json").write_text(content)
        with pytest.raises(VocabularyError, match="the file is damaged"):
            load_vocab(tmp_path / "vocab.json")


def test_all_stages_and_the_python_interface_work_on_bytes(
    tmp_path: Path, blank_store: Path
) -> None:
    project = tmp_path / "project"
    # A rate at which the first epoch does not learn all of it.
    prompts = {"sample.prompts": ["雪", "\n"], "train.epochs": 2, "train.muon.learning_rate": 0.02}
    make_project(project, {"encode.unit": "byte", **prompts, "sample.num_chars": 30}, CORPUS)
    (project / "mlflow.db").write_bytes(blank_store.read_bytes())
    run_stages(project, "download", "split", "encode", "train", "evaluate", "sample")

    train, val = (
        (project / f"Datasets/split/{name}.txt").read_bytes() for name in ("train", "val")
    )
    trained = load_model(project / "artifacts/model", "fused")
    val_ids = load_ids(project / "Datasets/encoded/val.npy", len(trained.vocab))
    assert (
        load_ids(project / "Datasets/encoded/train.npy", 256).tobytes() == train
        and val_ids.tobytes() == val
    )
    metrics = json.loads((project / "artifacts/evaluate/metrics.json").read_text())
    num_chars = len(val.decode()) - 1
    assert [one["num_chars"] for one in metrics.values()] == [num_chars] * 2
    best = json.loads((project / "artifacts/train/metrics.json").read_text())
    assert metrics["windowed_20"]["nats_per_char"] == pytest.approx(
        best["val_nats_per_char"], rel=1e-6
    )
    bytes_per_char = len(val) / len(val.decode())
    history = pd.read_csv(project / "artifacts/train/history.csv")
    assert math.log(256) < history["train_nats_per_char"][0] < math.log(256) * bytes_per_char

    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as database:
        tags = {name for (name,) in database.execute("SELECT key FROM model_version_tags")}
    assert {name for name in tags if name.endswith("/nats_per_char")} == {
        "stateful/nats_per_char"
    }, "of windows: none"

    review = json.loads((project / "artifacts/samples/review.json").read_text())
    assert (review["num_train_chars"], review["num_val_chars"]) == (
        len(train.decode()),
        num_chars + 1,
    )
    assert review["validation_sha256"] == hashlib.sha256(val).hexdigest()
    assert [len(one["text"]) for one in review["samples"]] == [30, 30]

    model = charlstm.load(project / "artifacts/model")
    score = model.score(val.decode())
    assert (
        score.nats == stateful(trained.model, EncodedText(val_ids, "byte")).nats
        and score.num_chars == num_chars
    )
    assert len(score.char_nats) == len(score.text) and math.isnan(score.char_nats[0])
    assert np.nansum(score.char_nats) == pytest.approx(score.nats)
    before = model.read(val.decode()[:50])
    rest = model.score(val.decode()[50:], state=before)
    np.testing.assert_allclose(rest.char_nats, score.char_nats[50:], atol=1e-5)
    assert len(model.generate("\U0001f600", num_chars=9, seed=1)) == 9
