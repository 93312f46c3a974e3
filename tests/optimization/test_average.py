import pytest
import torch

from charlstm.optimization.optimizers import MovingAverage


def test_follows_the_recurrence_with_its_short_memory_at_first() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(model, decay=0.5), None
    for t in range(30):
        torch.nn.init.constant_(model.weight, float(t * t))
        average.update(model)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = float(t * t) if expected is None else decay * expected + (1 - decay) * t * t
        assert average.module.get_parameter("weight").item() == pytest.approx(expected)


def test_decay_zero_is_the_weights_themselves_with_nothing_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    average = MovingAverage(model, decay=0)
    monkeypatch.setattr(model, "forward", model.bias.add)  # so Accelerate replaces it for mixed precision
    for _ in range(3):
        torch.nn.init.normal_(model.weight)
        average.update(model)
        inputs = torch.randn(5, 2)
        torch.testing.assert_close(average.module(inputs), torch.nn.functional.linear(inputs, model.weight, model.bias))
    assert average.module.get_parameter("weight") is model.weight
    assert average.state_dict() == {}
