"""How many characters some ids are, and the losses that are divided by that."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.evaluation.text_statistics import PromptedText, loss_of
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import char_losses, sliding, stateful, windowed
from charlstm.model.shape import ModelShape
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.encoded import EncodedText, begins_character
from charlstm.training.batches import Batches, StreamBatches, WindowBatches, rows_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
TEXT = "雪é\U0001f600a\n" * 40


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(256, 5, 12, 1, 0), "gates").eval().requires_grad_(False)


@given(TEXTS)
def test_characters_are_counted_by_their_first_bytes(text: str) -> None:
    ids = bytes_of(text)
    encoded = EncodedText(ids, "byte")
    assert (
        encoded.num_chars
        == int(begins_character(torch.from_numpy(ids.copy()), "byte").sum())
        == len(text)
    )
    assert encoded.num_chars_at(np.arange(len(ids))[None]) == len(text)
    assert encoded.first_input == len(text[0].encode()) - 1
    for length in range(1, len(ids) + 1):
        whole = encoded.first(length).ids.tobytes().decode()
        assert text.startswith(whole) and 0 <= length - len(whole.encode()) < 4
        if length >= len(text[-1].encode()):  # it has at least the last character
            whole = encoded.last(length).ids.tobytes().decode()
            assert text.endswith(whole) and 0 <= length - len(whole.encode()) < 4
    of_characters = EncodedText(ids)
    assert (of_characters.num_chars, of_characters.first_input) == (len(ids), 0)
    for part in (
        of_characters.first(None),
        of_characters.first(len(ids)),
        of_characters.last(len(ids)),
    ):
        assert part.ids.tobytes() == ids.tobytes()


@pytest.mark.parametrize("text", [TEXT, "a" + TEXT])
def test_a_loss_is_the_nats_of_all_bytes_over_the_characters(model: CharLSTM, text: str) -> None:
    """All but those of the first character, by each protocol."""
    ids, first = bytes_of(text), len(text[0].encode())
    nats_N, _ = char_losses(model, EncodedText(ids), model.zero_state(1))
    loss = stateful(model, EncodedText(ids, "byte"))
    assert loss.num_chars == len(text) - 1
    assert loss.nats == math.fsum(nats_N[first - 1 :])
    assert loss.nats_per_char > 2 * stateful(model, EncodedText(ids)).nats_per_char

    whole = windowed(model, EncodedText(ids, "byte"), 7)
    parts = [
        windowed(model, EncodedText(ids, "byte"), 7, rank=rank, world_size=3) for rank in range(3)
    ]
    assert whole.num_chars == sum(one.num_chars for one in parts) == len(text) - 1
    assert whole.nats == pytest.approx(sum(one.nats for one in parts))
    assert whole.nats == pytest.approx(windowed(model, EncodedText(ids[first - 1 :]), 7).nats)
    assert windowed(model, EncodedText(ids, "byte"), 10_000).nats == pytest.approx(
        stateful(model, EncodedText(ids[first - 1 :])).nats, rel=1e-5
    )
    slid = sliding(model, EncodedText(ids, "byte"), 1, 8, slice(0, 8))
    assert slid.num_chars == len(text) - 1
    one = loss_of(PromptedText(text[0], text[1:]), model, ByteVocab())
    assert one.num_chars == len(text) - 1 and one.nats == pytest.approx(loss.nats, rel=1e-5)


@pytest.mark.parametrize("kind", ["streams", "windows", "sliding"])
def test_training_counts_the_characters_that_its_batches_have(kind: str) -> None:
    """Of the global batch, on each process alike."""
    ids, world_size = bytes_of(TEXT[:150]), 3

    def batches(rank: int) -> Batches:
        sizes: Any = {
            "batch_size": 7,
            "context_len": 5,
            "seed": 1,
            "rows": rows_of(rank, world_size, 7),
        }
        if kind == "streams":
            return StreamBatches(EncodedText(ids, "byte"), **sizes)
        return WindowBatches(
            EncodedText(ids, "byte"), **sizes, stride=3, is_sliding=kind == "sliding"
        )

    all_ranks = [batches(rank) for rank in range(world_size)]
    for epoch in (1, 2):
        total = 0
        for step in range(all_ranks[0].steps_per_epoch):
            targets = np.concatenate(
                [one.batch(epoch, step).targets_BT.numpy().ravel() for one in all_ranks]
            )
            expected = int(begins_character(targets[targets >= 0], "byte").sum())
            assert [one.num_chars(epoch, step) for one in all_ranks] == [expected] * world_size
            total += expected
        assert total == all_ranks[0].chars_per_epoch < all_ranks[0].ids_per_epoch / 2
