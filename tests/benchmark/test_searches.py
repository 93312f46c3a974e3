"""The table of searches: what a record becomes, and how a text with strange characters is scored."""

from pathlib import Path

import pytest
import torch

from benchmarks import searches
from benchmarks.trials import append
from charlstm.model.char_lstm import initial_weights
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import UNSEEN, Vocab

RECORD = {
    "corpus": "some", "minutes": 3.0, "search_minutes": 9.0, "planned_seconds": 170, "train_seconds": 181.0,
    "states": ["COMPLETE", "PRUNED", "COMPLETE", "RUNNING"], "losses": [1.5, 1.7, 1.4, None], "best": 2,
    "test_nats_per_char": [1.6, 1.55], "interval": 0.01,
}  # fmt: skip


def test_a_record_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "RECORDS", tmp_path / "searches.jsonl")
    assert searches.table_of_searches() == "nothing is recorded yet"
    append(searches.RECORDS, RECORD)
    append(searches.RECORDS, RECORD | {"best": 0, "test_nats_per_char": [1.6, 1.6], "interval": None})
    first, second = searches.table_of_searches().splitlines()[2:]
    assert first == "| some | 3 | 2:50 | 3:01 | 9 | 1 | 1 | 1.5000 | 1.4000 | 1.6000 | 1.5500 | 0.0500 ± 0.0100 |"
    assert second.endswith("| 1.5000 | 1.5000 | 1.6000 | 1.6000 | the same |")


@pytest.mark.parametrize("characters", ["ab" + UNSEEN, "ab"])
def test_characters_that_a_model_does_not_know(tmp_path: Path, characters: str) -> None:
    vocab, shape = Vocab(characters), ModelShape(len(characters), 4, 8, 1, 0)
    weights = initial_weights(shape, "uniform", forget_gate_bias=1.0, generator=torch.Generator().manual_seed(0))
    save_model(tmp_path / "1/model", weights, shape, vocab)
    text = 99 * "ab\N{SNOWMAN}ba"
    known = text.replace("\N{SNOWMAN}", UNSEEN if UNSEEN in characters else "")
    scored, expected = (searches._scored(tmp_path / "1/model", one) for one in (text, known))
    assert scored.losses == expected.losses and scored.name == "1"
