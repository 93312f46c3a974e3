"""Where documents begin, against a search by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import stateful, windowed
from charlstm.text.encoded import EncodedText, separator_ids
from charlstm.text.encoded_files import load_ids
from charlstm.text.vocabulary import Vocab
from tests.support.projects import make_project, write_params
from tests.support.stages import run_here, run_stages

VOCAB = Vocab("\nabc")


@given(
    text=st.text("ab", min_size=1, max_size=60),
    separator=st.text("ab", min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_every_occurrence_begins_a_document_overlapping_ones_too(
    text: str, separator: str, seed: int
) -> None:
    ids = VOCAB.encode(text)
    positions = np.random.default_rng(seed).integers(
        0, len(text), (3, 7)
    )  # in any order, some twice
    starts = EncodedText(ids, separator=VOCAB.encode(separator)).document_starts(positions)
    assert starts is not None
    assert starts.tolist() == [[text[at:].startswith(separator) for at in row] for row in positions]


def test_a_separator_has_ids_or_one_clear_line() -> None:
    assert separator_ids(None, VOCAB) is None
    found = separator_ids("\na", VOCAB)
    assert found is not None and found.tolist() == [0, 1]
    with pytest.raises(
        VocabularyError, match="split.document_separator: .* the vocabulary lacks '.x00'"
    ):
        separator_ids("\n\x00", VOCAB)


def test_a_separator_that_the_training_part_lacks_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in the validation part alone."""
    make_project(tmp_path / "project", {"split.document_separator": "the end"})
    (tmp_path / "project/text.txt").write_text("words\n" * 100 + "the end")
    run_stages(tmp_path / "project", "download")
    assert run_here(tmp_path / "project", "split") == 2
    assert "'the end' stands nowhere in the training part" in caplog.text


def test_the_stages_read_documents_of_the_parameter(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"split.document_separator": "\n", "evaluate.window_lens": [20]})
    run_stages(project, "train", "evaluate")
    trained = load_model(project / "artifacts/model", "fused")
    val_ids = load_ids(project / "Datasets/encoded/val.npy", len(trained.vocab))
    separator = trained.vocab.encode("\n")
    found = json.loads((project / "artifacts/evaluate/metrics.json").read_text())
    divided, whole = EncodedText(val_ids, separator=separator), EncodedText(val_ids)
    for name, loss, without in (
        ("stateful", stateful(trained.model, divided), stateful(trained.model, whole)),
        ("windowed_20", windowed(trained.model, divided, 20), windowed(trained.model, whole, 20)),
    ):
        assert found[name]["nats_per_char"] == pytest.approx(loss.nats_per_char, rel=1e-6)
        assert found[name]["nats_per_char"] != pytest.approx(without.nats_per_char, rel=1e-4)
    validation = json.loads((project / "artifacts/train/metrics.json").read_text())[
        "val_nats_per_char"
    ]
    assert validation == pytest.approx(found["windowed_20"]["nats_per_char"], rel=1e-6)
