"""Batches have every character once, and do not depend on the number of processes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TrainingError
from charlstm.model.loss import IGNORE
from charlstm.text.encoded import EncodedText
from charlstm.training.batches import Batches, StreamBatches, WindowBatches, rows_of


def position_ids(length: int) -> np.ndarray:
    """Return ids that are their own positions, so that a batch shows where it was read."""
    return np.arange(length, dtype=np.uint16)


def sizes(batch_size: int, context_len: int, seed: int = 0) -> dict[str, Any]:
    return {"batch_size": batch_size, "context_len": context_len, "seed": seed}


def first_inputs(batches: Batches, epoch: int) -> list[int]:
    steps = range(batches.steps_per_epoch)
    return [int(at) for step in steps for at in batches.batch(epoch, step).inputs_BT[:, 0]]


def scored_pairs(batches: Batches, epoch: int) -> Counter[tuple[int, int]]:
    pairs: Counter[tuple[int, int]] = Counter()
    for step in range(batches.steps_per_epoch):
        inputs_BT, targets_BT = batches.batch(epoch, step).ids_on(torch.device("cpu"))
        scored = targets_BT != IGNORE
        assert int(scored.sum()) == batches.num_chars(epoch, step)
        pairs.update(zip(inputs_BT[scored].tolist(), targets_BT[scored].tolist(), strict=True))
    assert pairs.total() == batches.chars_per_epoch
    return pairs


@given(st.integers(31, 400), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9))
def test_streams_score_every_pair_once(
    length: int, batch_size: int, context_len: int, epoch: int
) -> None:
    batches = StreamBatches(EncodedText(position_ids(length)), **sizes(batch_size, context_len))
    assert scored_pairs(batches, epoch) == Counter((at, at + 1) for at in range(length - 1))


def test_streams_continue_where_they_stopped_and_start_elsewhere_each_epoch() -> None:
    batches = StreamBatches(EncodedText(position_ids(1001)), **sizes(4, 50))
    assert batches.steps_per_epoch == 5
    for step in range(4):
        ends = batches.batch(1, step).inputs_BT[:, -1].long()
        begins = batches.batch(1, step + 1).inputs_BT[:, 0].long()
        assert torch.equal((ends + 1) % 1000, begins)
    firsts = {int(batches.batch(epoch, 0).inputs_BT[0, 0]) for epoch in range(1, 9)}
    assert len(firsts) == 8


@given(st.integers(40, 200), st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))
def test_windows_are_read_once_each(
    length: int, batch_size: int, context_len: int, stride: int
) -> None:
    text = EncodedText(position_ids(length))
    batches = WindowBatches(text, **sizes(batch_size, context_len), stride=stride)
    starts = range(0, length - context_len, stride)
    expected = Counter((at, at + 1) for start in starts for at in range(start, start + context_len))
    assert scored_pairs(batches, 1) == expected


def test_windows_come_in_another_order_each_epoch_the_same_each_time() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        text = EncodedText(position_ids(300))
        return first_inputs(WindowBatches(text, **sizes(4, 5, seed), stride=1), epoch)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def make(kind: str, text: EncodedText, **more: slice) -> Batches:
    common = {**sizes(10, 7, seed=5), **more}
    if kind == "streams":
        return StreamBatches(text, **common)
    return WindowBatches(text, stride=3, is_sliding=kind == "sliding_windows", **common)


@pytest.mark.parametrize("kind", ["streams", "windows", "sliding_windows"])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_out_the_rows_of_one_global_batch(kind: str, world_size: int) -> None:
    text = EncodedText(position_ids(500) % 11)
    whole = make(kind, text)
    shares = [make(kind, text, rows=rows_of(rank, world_size, 10)) for rank in range(world_size)]
    assert whole.steps_per_epoch > 3
    for step in range(whole.steps_per_epoch):
        batch = whole.batch(2, step)
        parts = [share.batch(2, step).ids_on(torch.device("cpu")) for share in shares]
        expected = batch.ids_on(torch.device("cpu"))
        assert all(map(torch.equal, map(torch.cat, zip(*parts, strict=True)), expected))


def test_too_little_text_is_refused_with_what_would_fit() -> None:
    text = EncodedText(position_ids(100))
    with pytest.raises(TrainingError, match="batch_size is 10, but 11 processes were started"):
        rows_of(0, 11, 10)
    with pytest.raises(TrainingError, match="train.batch_size 32 x train.context_len 10"):
        StreamBatches(text, **sizes(32, 10))
    StreamBatches(text, **sizes(9, 10))
    StreamBatches(text, **sizes(32, 3))
