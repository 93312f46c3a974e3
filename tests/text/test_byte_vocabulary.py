"""Text as bytes: encoding and decoding, files, and all stages and commands."""

import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlstm
from charlstm.errors import VocabularyError
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import stateful
from charlstm.text.encoded import EncodedText, load_ids, text_sha256
from charlstm.text.prompts import replaced
from charlstm.text.vocabulary import ByteVocab, Decoder
from tests.support.projects import make_project
from tests.support.stages import run_stages
from tests.support.stores import query

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VOCAB = ByteVocab()
CORPUS = "雪が降る。\U0001f600 café\r\n山水の道、\U0001f469\u200d\U0001f467。\n" * 120


@given(TEXTS, st.integers(1, 5))
def test_decoding_undoes_encoding_in_pieces_too(text: str, size: int) -> None:
    ids = VOCAB.encode(text)
    decoder = Decoder(VOCAB)
    assert VOCAB.decode(ids) == VOCAB.decode(ids.tolist()) == text
    pieces = [ids[at : at + size].tolist() for at in range(0, len(ids), size)]
    assert "".join(map(decoder.decode, pieces)) == text
    assert ids.tobytes() == text.encode() and VOCAB.num_ids(text) == len(ids)
    assert text_sha256(ids, VOCAB) == hashlib.sha256(text.encode()).hexdigest()


def test_only_what_is_no_character_is_unknown() -> None:
    assert not VOCAB.unknown("".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])))
    assert VOCAB.unknown("a\udcffb\udcff") == {"\udcff": 2}
    with pytest.raises(VocabularyError):
        VOCAB.encode("a\udcffb\udcff")
    with pytest.raises(VocabularyError):
        VOCAB.decode(VOCAB.encode("a雪")[:3])
    assert replaced("a\ud800", VOCAB) == "a\ufffd"


def test_all_stages_and_the_python_interface_work_on_bytes(
    tmp_path: Path, blank_store: Path
) -> None:
    project = tmp_path / "project"
    override = {"encode.unit": "byte", "sample.prompts": ["雪", "\n"], "sample.num_chars": 30}
    make_project(project, override, CORPUS)
    (project / "mlflow.db").write_bytes(blank_store.read_bytes())
    run_stages(project, "download", "split", "encode", "train", "evaluate", "sample")

    train, val = (
        (project / f"Datasets/split/{name}.txt").read_bytes() for name in ("train", "val")
    )
    trained = load_model(project / "artifacts/model", "fused")
    train_ids = load_ids(project / "Datasets/encoded/train.npy")
    val_ids = load_ids(project / "Datasets/encoded/val.npy")
    assert (train_ids.tobytes(), val_ids.tobytes()) == (train, val)
    metrics = json.loads((project / "artifacts/evaluate/metrics.json").read_text())
    num_chars = len(val.decode()) - 1
    assert [one["num_chars"] for one in metrics.values()] == [num_chars] * 2
    # The registry compares losses, and no loss of windows is comparable between units.
    tags = {name for (name,) in query(project, "select key from model_version_tags")}
    assert [name for name in tags if name.endswith("/nats_per_char")] == ["stateful/nats_per_char"]

    model = charlstm.load(project / "artifacts/model")
    score = model.score(val.decode())
    assert score.nats == stateful(trained.model, EncodedText(val_ids, "byte")).nats
    assert score.num_chars == num_chars and math.isnan(score.char_nats[0])
    assert len(model.generate("\U0001f600", num_chars=9, seed=1)) == 9
