"""Every trained weight has one optimizer, and the right one; the schedule; the average."""

import pytest
import torch

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import Implementation, ModelShape
from charlstm.optimization.muon import Muon
from charlstm.optimization.optimizers import MovingAverage, learning_rate, make_optimizers
from charlstm.training.processes import Processes

SHAPE = ModelShape(9, 4, 6, 2, 10)


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize("has_muon", [False, True])
def test_each_weight_is_moved_once(implementation: Implementation, has_muon: bool) -> None:
    model = CharLSTM(SHAPE, implementation)
    optimizers = make_optimizers(
        model,
        has_muon=has_muon,
        learning_rate=0.01,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        muon_learning_rate=0.02,
        muon_momentum=0.9,
        muon_dtype=torch.float32,
        peers=Processes("fp32"),
    )
    names = {id(weight): name for name, weight in model.named_parameters() if weight.requires_grad}
    groups = [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]
    moved = [names[id(weight)] for _, group in groups for weight in group["params"]]
    assert sorted(moved) == sorted(names.values())
    matrices_of_muon = {
        names[id(weight)]: group["num_rows"]
        for optimizer, group in groups
        if isinstance(optimizer, Muon)
        for weight in group["params"]
    }
    assert bool(matrices_of_muon) == has_muon
    for name, num_rows in matrices_of_muon.items():
        assert model.get_parameter(name).dim() == 2
        assert num_rows == (10 if name == "feed_forward.up.weight" else 6), name
    if has_muon:
        between_features = {
            name for name in names.values() if name.startswith(("layers.", "feed_forward."))
        }
        assert matrices_of_muon.keys() == {name for name in between_features if "bias" not in name}
    assert {group["peak"] for _, group in groups} == ({0.01, 0.02} if has_muon else {0.01})


def rates(warmup_steps: int, num_steps: int, final_fraction: float) -> list[float]:
    return [
        learning_rate(
            step, warmup_steps=warmup_steps, num_steps=num_steps, final_fraction=final_fraction
        )
        for step in range(num_steps)
    ]


def test_warms_up_peaks_and_decays_to_the_final_fraction() -> None:
    found = rates(10, 101, 0.01)
    assert found[0] == pytest.approx(0.1)
    assert max(found) == found[9] == found[10] == 1
    assert found[55] == pytest.approx(0.01 + 0.99 / 2)
    assert found[-1] == pytest.approx(0.01)
    assert found[10:] == sorted(found[10:], reverse=True)


def test_fraction_one_is_constant_and_a_warmup_longer_than_training_only_warms_up() -> None:
    assert set(rates(0, 9, 1)) == {1.0}
    assert rates(10, 5, 0)[4] == 0.5
    assert rates(0, 1, 0) == [1.0]


@pytest.mark.parametrize("most", [0.5, 0.0])
def test_follows_the_recurrence_with_its_short_memory_at_first(most: float) -> None:
    model = CharLSTM(SHAPE, "fused")
    average = MovingAverage(model, decay=most)
    expected = None
    for t in range(30):
        torch.nn.init.constant_(model.head.bias, float(t * t))
        average.update(model)
        decay = min(most, (1 + t) / (10 + t))
        expected = float(t * t) if expected is None else decay * expected + (1 - decay) * t * t
        assert average.model.head.bias[0].item() == pytest.approx(expected)
