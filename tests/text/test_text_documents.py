"""Starts of documents in a text, and the losses of its documents."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import windowed
from charlstm.text.encoded import EncodedText, load_ids, separator_ids
from charlstm.text.vocabulary import Vocab
from tests.support.projects import write_params
from tests.support.stages import run_stages

VOCAB = Vocab("\nabc")


@given(
    st.text("ab", min_size=1, max_size=60),
    st.text("ab", min_size=1, max_size=4),
    st.integers(0, 100),
)
def test_every_occurrence_begins_a_document_overlapping_ones_too(
    text: str, separator: str, seed: int
) -> None:
    ids = VOCAB.encode(text)
    # The positions have no order, and some are equal.
    positions = np.random.default_rng(seed).integers(0, len(text), (3, 7))
    starts = EncodedText(ids, separator=VOCAB.encode(separator)).document_starts(positions)
    assert starts is not None
    assert starts.tolist() == [[text[at:].startswith(separator) for at in row] for row in positions]


def test_a_separator_has_ids_or_one_clear_line() -> None:
    assert separator_ids(None, VOCAB) is None
    found = separator_ids("\na", VOCAB)
    assert found is not None and found.tolist() == [0, 1]
    expected = "split.document_separator: .* the vocabulary lacks '.x00'"
    with pytest.raises(VocabularyError, match=expected):
        separator_ids("\n\x00", VOCAB)


def test_the_stages_read_documents_of_the_parameter(project: Path) -> None:
    write_params(project, {"split.document_separator": "\n", "evaluate.window_lens": [20]})
    run_stages(project, "train", "evaluate")
    trained = load_model(project / "artifacts/model", "fused")
    val_ids = load_ids(project / "Datasets/encoded/val.npy")
    separator = trained.vocab.encode("\n")
    found = json.loads((project / "artifacts/evaluate/metrics.json").read_text())
    loss = windowed(trained.model, EncodedText(val_ids, separator=separator), 20)
    whole = windowed(trained.model, EncodedText(val_ids), 20)
    nats = found["windowed_20"]["nats_per_char"]
    assert nats == pytest.approx(loss.nats_per_char, rel=1e-6)
    assert nats != pytest.approx(whole.nats_per_char, rel=1e-4)
    best = json.loads((project / "artifacts/train/metrics.json").read_text())["val_nats_per_char"]
    assert best == pytest.approx(nats, rel=1e-6)
