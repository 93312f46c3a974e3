"""Protocols against a loop that scores one character at a time, and published losses."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch

from charlstm.evaluation.results import published_for
from charlstm.model import protocols
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.loss import IGNORE, summed_nats
from charlstm.model.protocols import LossSum, sliding, windowed
from charlstm.model.shape import ModelShape
from charlstm.params import PublishedLoss
from charlstm.text.encoded import EncodedText, text_sha256
from charlstm.text.vocabulary import Vocab
from tests.support.models import random_model

NUM_IDS = 307


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    return random_model(ModelShape(9, 4, 6, 2), "fused").double()


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, NUM_IDS).astype(np.uint8)


@torch.no_grad()
def brute_force(model: CharLSTM, ids: np.ndarray, reset_every: int | None) -> LossSum:
    nats = 0.0
    state = None
    for at in range(len(ids) - 1):
        if reset_every and at % reset_every == 0:
            state = None
        logits_BTV, state = model(torch.tensor([[int(ids[at])]]), state)
        nats -= float(logits_BTV[0, 0].log_softmax(0)[int(ids[at + 1])])
    return LossSum(nats, len(ids) - 1)


@pytest.mark.parametrize("context_len", [1, 7, 102, 306, 1000])
def test_windowed(
    model: CharLSTM,
    ids: np.ndarray,
    context_len: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocols, "MAX_CHARS_PER_FORWARD", 500)
    loss = windowed(model, EncodedText(ids), context_len)
    expected = brute_force(model, ids, context_len)
    assert loss.num_chars == expected.num_chars == NUM_IDS - 1
    assert loss.nats == pytest.approx(expected.nats, rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 50, 306, 5000])
def test_stateful(
    model: CharLSTM,
    ids: np.ndarray,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocols, "STATEFUL_CHUNK", chunk)
    loss = protocols.stateful(model, EncodedText(ids))
    assert loss.num_chars == NUM_IDS - 1
    assert loss.nats == pytest.approx(brute_force(model, ids, None).nats, rel=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("context_len", "num_rows"), [(10, 4), (10, 40), (306, 1), (1000, 2)])
def test_sliding(model: CharLSTM, ids: np.ndarray, context_len: int, num_rows: int) -> None:
    text = torch.from_numpy(ids.astype(np.int64))
    length = min(context_len, NUM_IDS - 1)
    nats: float = 0.0
    ends: list[LSTMState] = []
    for start in range(NUM_IDS - length):
        state = ends[start - num_rows] if start >= num_rows else None
        for at in range(start, start + length):
            logits_BTV, state = model(text[None, at : at + 1], state)
            nats -= float(logits_BTV[0, 0].log_softmax(0)[text[at + 1]])
        assert state is not None
        ends.append(state)
    divided = EncodedText(ids)
    loss = sliding(model, divided, context_len, num_rows, slice(0, num_rows))
    assert loss.num_chars == (NUM_IDS - length) * length
    assert loss.nats == pytest.approx(nats, rel=1e-12)


@pytest.mark.parametrize("num_processes", [2, 3, 40])
def test_processes_share_out_windows_and_rows(
    model: CharLSTM, ids: np.ndarray, num_processes: int
) -> None:
    text = EncodedText(ids)
    ranks = range(num_processes)
    edges = [40 * rank // num_processes for rank in range(num_processes + 1)]
    rows = [slice(*edge) for edge in pairwise(edges)]
    windows = [windowed(model, text, 10, rank=one, world_size=num_processes) for one in ranks]
    slid = [sliding(model, text, 10, 40, one) for one in rows]
    whole = [windowed(model, text, 10), sliding(model, text, 10, 40, slice(0, 40))]
    for parts, loss in zip((windows, slid), whole, strict=True):
        assert sum(part.num_chars for part in parts) == loss.num_chars
        assert sum(part.nats for part in parts) == pytest.approx(loss.nats, rel=1e-12)


PUBLISHED_TEXT = "to be, or not to be. Ωmega"
VOCAB = Vocab.of(PUBLISHED_TEXT)


REPORTED = {
    "validation_sha256": hashlib.sha256(PUBLISHED_TEXT.encode()).hexdigest(),
    "losses": [
        {"protocol": protocol, "system": "a model", "nats_per_char": 1.25}
        for protocol in ("stateful", "windowed_100")
    ],
}


def test_published_losses_are_of_the_same_text_only() -> None:
    stateful, windowed = map(PublishedLoss.model_validate, REPORTED["losses"])
    same, other = (
        text_sha256(VOCAB.encode(text), VOCAB) for text in (PUBLISHED_TEXT, PUBLISHED_TEXT[:-1])
    )
    assert published_for(same, REPORTED, "character") == (stateful, windowed)
    assert published_for(same, REPORTED, "byte") == (stateful,)
    assert published_for(other, REPORTED, "character") == ()
    assert published_for(same, None, "character") == ()


def test_sum_leaves_out_what_is_not_scored() -> None:
    logits_BTV = torch.randn(2, 3, 5, dtype=torch.float64)
    targets_BT = torch.tensor([[0, 1, IGNORE], [IGNORE, 4, 2]])
    by_hand = -sum(
        float(logits_BTV[b, t].log_softmax(0)[target])
        for b, row in enumerate(targets_BT.tolist())
        for t, target in enumerate(row)
        if target != IGNORE
    )
    assert float(summed_nats(logits_BTV, targets_BT)) == pytest.approx(by_hand)
    copies = (logits_BTV, torch.randn(2, 3, 5, dtype=torch.float64))
    mean = sum(float(summed_nats(copy, targets_BT)) for copy in copies) / 2
    assert float(summed_nats(torch.cat(copies), targets_BT)) == pytest.approx(mean)
