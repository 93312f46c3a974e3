"""Rows of a corpus and rows of what teachers wrote, in one global batch."""

import numpy as np
import pytest
import torch

from benchmarks.projects import ROOT, compose
from charlstm.errors import TrainingError
from charlstm.model.loss import IGNORE, soft_nats, summed_nats
from charlstm.text.encoded import EncodedText
from charlstm.text.soft_targets import SoftTargets
from charlstm.training import learner as learner_module
from charlstm.training.batches import DistillationBatches, StreamBatches, rows_of
from charlstm.training.learner import Learner, batches_of
from charlstm.training.processes import Processes

V = 11


def soft_targets(num_chars: int) -> SoftTargets:
    """Distributions that say where they are: the code of the first character is the position."""
    quantized_NV = np.zeros((num_chars, V), np.uint8)
    quantized_NV[:, 0] = np.arange(num_chars)
    return SoftTargets([(np.arange(num_chars) % V).astype(np.uint8)], [quantized_NV])


def batches(num_soft: int = 200, rank: int = 0, world_size: int = 1) -> DistillationBatches:
    ids = (np.arange(100) % V).astype(np.uint8)
    return DistillationBatches(
        EncodedText(ids),
        soft_targets(num_soft),
        4,
        batch_size=7,
        context_len=5,
        seed=3,
        rows=rows_of(rank, world_size, 7),
    )


def test_the_first_rows_are_those_of_a_smaller_batch_of_the_corpus() -> None:
    ids = (np.arange(100) % V).astype(np.uint8)
    alone = StreamBatches(EncodedText(ids), batch_size=3, context_len=5, seed=3)
    mixed = batches()
    assert mixed.steps_per_epoch == alone.steps_per_epoch == 7
    assert mixed.chars_per_epoch == alone.chars_per_epoch
    for epoch in (1, 2):
        for step in range(7):
            found, expected = mixed.batch(epoch, step), alone.batch(epoch, step)
            assert torch.equal(found.inputs_BT[:3], expected.inputs_BT)
            assert torch.equal(found.targets_BT[:3], expected.targets_BT)
            assert (found.targets_BT[3:] == IGNORE).all()
            assert mixed.num_chars(epoch, step) == alone.num_chars(epoch, step)


@pytest.mark.parametrize("num_soft", [21, 22, 73, 250])
@pytest.mark.parametrize("epoch", [1, 2, 19])
def test_each_soft_row_has_the_distribution_of_the_character_after_it(num_soft: int, epoch: int) -> None:
    mixed = batches(num_soft)
    for step in range(7):
        batch = mixed.batch(epoch, step)
        assert batch.quantized_BTV is not None
        assert batch.quantized_BTV.shape[:2] == batch.inputs_BT[3:].shape
        after_BT = batch.quantized_BTV[..., 0].long()  # the position of the character to guess
        assert torch.equal((after_BT - 1) % V, batch.inputs_BT[3:])


def test_a_student_does_not_train_without_the_text() -> None:
    params = compose(ROOT, ["recipe=student"]).train
    with pytest.raises(TrainingError, match="distillation.rows is 64, but there is no text that teachers wrote"):
        batches_of(EncodedText(np.zeros(10_000, np.uint8)), params, slice(0, params.batch_size))


def test_a_text_of_teachers_that_is_too_short_for_a_step_is_named() -> None:
    with pytest.raises(TrainingError, match="the teachers' text has 20 characters, too few for one step"):
        batches(20)


def test_a_student_of_a_large_alphabet_takes_fewer_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same gradients. Rows of both texts may be among them."""
    (one, nats, gradient), (several, *others), (whole, *more) = (
        _rows_and_gradient(num_rows, monkeypatch) for num_rows in (1, 3, 7)
    )
    assert (one, several, whole) == ([1] * 7, [3, 3, 1], [7])
    for other_nats, other_gradient in (others, more):
        torch.testing.assert_close(other_nats, nats, rtol=1e-12, atol=0)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-9, atol=1e-12)


def _rows_and_gradient(at_once: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Of a student's first step, where so many rows have as many logits as are allowed."""
    params = compose(ROOT, ["recipe=student", "model.hidden_size=16", "train.precision=fp64"])
    train = params.train.model_copy(update={"batch_size": 7, "context_len": 6, "warmup_steps": 1})
    train = train.model_copy(update={"distillation": params.train.distillation.model_copy(update={"rows": 4})})
    ids = (np.arange(400) ** 2 % V).astype(np.uint8)
    monkeypatch.setattr(learner_module, "MAX_LOGITS", at_once * train.dropout.output_samples * train.context_len * V)
    learner = Learner(EncodedText(ids), V, params.model, train, Processes("fp64"), soft_targets=soft_targets(200))
    num_rows: list[int] = []
    learner.model.register_forward_pre_hook(lambda _, given: num_rows.append(len(given[0])))
    nats = learner.add_gradients(0, learner.batches.batch(1, 0))
    gradients = [weight.grad.flatten() for weight in learner.model.parameters() if weight.grad is not None]
    return num_rows, nats, torch.cat(gradients)


def test_the_teachers_text_is_read_on_over_the_ends_of_epochs() -> None:
    mixed, seen = batches(), list[torch.Tensor]()
    for step in range(10):  # a pass has 9 whole steps of 4 rows of 5
        batch = mixed.batch(1 + step // 7, step % 7)
        assert batch.quantized_BTV is not None
        seen.append(batch.quantized_BTV[..., 0])
    firsts = [codes[0, 0].item() for codes in seen]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_processes_share_out_the_rows(world_size: int) -> None:
    whole = batches().batch(2, 3)
    parts = [batches(rank=rank, world_size=world_size).batch(2, 3) for rank in range(world_size)]
    assert whole.quantized_BTV is not None
    assert torch.equal(torch.cat([part.inputs_BT for part in parts]), whole.inputs_BT)
    assert torch.equal(torch.cat([part.targets_BT for part in parts]), whole.targets_BT)
    assert torch.equal(
        torch.cat([part.quantized_BTV for part in parts if part.quantized_BTV is not None]), whole.quantized_BTV
    )


def test_the_loss_of_a_certain_distribution_is_that_of_its_character() -> None:
    logits_BTV, targets_BT = torch.randn(6, 4, V), torch.randint(V, (3, 4))  # two copies
    certain_BTV = torch.nn.functional.one_hot(targets_BT, V).float()
    torch.testing.assert_close(soft_nats(logits_BTV, certain_BTV), summed_nats(logits_BTV, targets_BT))
    assert soft_nats(logits_BTV[:0], certain_BTV[:0]) == 0
