import math

import pytest
import torch

from charlstm.model.loss import IGNORE, LossSum, summed_nats


def test_units() -> None:
    loss = LossSum(nats=20 * math.log(4), num_chars=20)
    assert loss.nats_per_char == pytest.approx(math.log(4))
    assert loss.bits_per_char == pytest.approx(2)
    assert loss.perplexity == pytest.approx(4)


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert LossSum(709.7, 1).perplexity < math.inf
    assert LossSum(709.8, 1).perplexity == LossSum(9e19, 1).perplexity == math.inf


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
