"""The number of characters of byte ids, and losses per character."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import char_losses, sliding, stateful, windowed
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText, begins_character
from charlstm.training.batches import Batches, StreamBatches, WindowBatches, rows_of
from tests.support.models import random_model

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
CPU = torch.device("cpu")
TEXT = "雪é\U0001f600a\n" * 40


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    return random_model(ModelShape(256, 5, 12, 1, 0))


@given(TEXTS)
def test_characters_are_counted_by_their_first_bytes(text: str) -> None:
    ids = bytes_of(text)
    encoded = EncodedText(ids, "byte")
    assert encoded.num_chars == int(begins_character(ids, "byte").sum()) == len(text)
    assert encoded.num_chars_at(np.arange(len(ids))[None]) == len(text)
    assert encoded.first_input == len(text[0].encode()) - 1
    for length in range(1, len(ids) + 1):
        whole = encoded.first(length).ids.tobytes().decode()
        assert text.startswith(whole) and 0 <= length - len(whole.encode()) < 4
        if length >= len(text[-1].encode()):  # long enough for the last character
            whole = encoded.last(length).ids.tobytes().decode()
            assert text.endswith(whole) and 0 <= length - len(whole.encode()) < 4
    of_characters = EncodedText(ids)
    assert (of_characters.num_chars, of_characters.first_input) == (len(ids), 0)
    assert of_characters.first(None).ids.tobytes() == ids.tobytes()


@pytest.mark.parametrize("text", [TEXT, "a" + TEXT])
def test_a_loss_is_the_nats_of_all_bytes_over_the_characters(model: CharLSTM, text: str) -> None:
    """No protocol scores the first character."""
    ids = bytes_of(text)
    first = len(text[0].encode())
    of_bytes = EncodedText(ids, "byte")
    rest = EncodedText(ids[first - 1 :])
    nats_N, _ = char_losses(model, EncodedText(ids), model.zero_state(1))
    loss = stateful(model, of_bytes)
    assert loss.num_chars == len(text) - 1
    assert loss.nats == math.fsum(nats_N[first - 1 :])
    assert loss.nats_per_char > 2 * stateful(model, EncodedText(ids)).nats_per_char

    parts = [windowed(model, of_bytes, 7, rank=rank, world_size=3) for rank in range(3)]
    assert sum(one.num_chars for one in parts) == len(text) - 1
    assert sum(one.nats for one in parts) == pytest.approx(windowed(model, rest, 7).nats)
    one_window = windowed(model, of_bytes, 10_000).nats
    assert one_window == pytest.approx(stateful(model, rest).nats, rel=1e-5)
    slid = sliding(model, of_bytes, 1, 8, slice(0, 8))
    assert slid.num_chars == len(text) - 1


@pytest.mark.parametrize("kind", ["streams", "windows", "sliding"])
def test_training_counts_the_characters_that_its_batches_have(kind: str) -> None:
    """The number belongs to the global batch, so all processes have the same."""
    text = EncodedText(bytes_of(TEXT[:150]), "byte")
    world_size = 3

    def batches(rank: int) -> Batches:
        sizes: Any = {"batch_size": 7, "context_len": 5, "seed": 1}
        sizes["rows"] = rows_of(rank, world_size, 7)
        if kind == "streams":
            return StreamBatches(text, **sizes)
        return WindowBatches(text, **sizes, stride=3, is_sliding=kind == "sliding")

    all_ranks = [batches(rank) for rank in range(world_size)]
    for epoch in (1, 2):
        total = 0
        for step in range(all_ranks[0].steps_per_epoch):
            batches_N = [one.batch(epoch, step) for one in all_ranks]
            parts = [batch.ids_on(CPU)[1].numpy().ravel() for batch in batches_N]
            targets = np.concatenate(parts)
            expected = int(begins_character(targets[targets >= 0], "byte").sum())
            assert [one.num_chars(epoch, step) for one in all_ranks] == [expected] * world_size
            total += expected
        assert total == all_ranks[0].chars_per_epoch < all_ranks[0].ids_per_epoch / 2
