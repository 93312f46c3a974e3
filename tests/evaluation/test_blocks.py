"""The loss by blocks: complete, with the same blocks for characters and bytes."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from charlstm.evaluation import difference
from charlstm.evaluation.difference import blocks_of, parse_blocks
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import stateful_nats
from charlstm.review.document import read_losses
from charlstm.text.encoded import EncodedText, load_encoded

TEXT = "aé€😀b" * 211  # of one to four bytes


def of_text(unit: str) -> tuple[EncodedText, NDArray[np.float64]]:
    """Return a text and its nats: every character costs its place in TEXT, shared by its bytes."""
    lengths = [len(character.encode()) for character in TEXT]
    if unit == "character":
        return EncodedText(np.zeros(len(TEXT), np.uint8)), np.arange(1.0, len(TEXT))
    ids = np.frombuffer(TEXT.encode(), np.uint8)
    nats_N = np.repeat(np.arange(len(TEXT)) / lengths, lengths)[1:]
    return EncodedText(ids, "byte"), nats_N


@pytest.mark.parametrize("unit", ["character", "byte"])
@pytest.mark.parametrize("length", [1, 7, 500, len(TEXT) - 1, len(TEXT), len(TEXT) + 1])
def test_blocks_are_of_characters(unit: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "BLOCK_LEN", length)
    text, nats_N = of_text(unit)
    found = blocks_of(nats_N, text)
    places = [range(start, min(start + length, len(TEXT))) for start in range(0, len(TEXT), length)]
    scored = [[place for place in block if place > 0] for block in places]
    assert found.start.tolist() == [block[0] for block in places]
    assert found.num_chars.tolist() == [len(block) for block in scored]
    assert found.nats == pytest.approx([sum(block) for block in scored], rel=1e-12)


def test_the_stage_writes_them_and_they_are_read_to_the_bit(trained: Path) -> None:
    file = trained / "artifacts/evaluate/blocks.csv"
    found = parse_blocks(file.read_text(), file)
    model = load_model(trained / "artifacts/model", "fused")
    text = load_encoded(trained / "Datasets/encoded/val.npy", model.vocab)
    expected = blocks_of(stateful_nats(model.model, text), text)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()
    losses = read_losses(trained / "artifacts/evaluate/metrics.json")
    nats_per_char = found.nats.sum() / found.num_chars.sum()
    assert math.isclose(nats_per_char, losses["stateful"].nats_per_char, rel_tol=1e-12)
    assert found.align_with(expected) and not found.align_with(
        expected._replace(start=expected.start + 1)
    )
