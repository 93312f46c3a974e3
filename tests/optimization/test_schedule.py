import pytest

from charlstm.optimization.optimizers import learning_rate


def test_warms_up_peaks_and_decays_to_the_final_fraction() -> None:
    rates = [learning_rate(step, warmup_steps=10, num_steps=101, final_fraction=0.01) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[55] == pytest.approx(0.01 + 0.99 / 2)
    assert rates[-1] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_fraction_one_is_constant_and_a_warmup_longer_than_training_only_warms_up() -> None:
    assert {learning_rate(s, warmup_steps=0, num_steps=9, final_fraction=1) for s in range(9)} == {1.0}
    assert learning_rate(4, warmup_steps=10, num_steps=5, final_fraction=0) == 0.5
    assert learning_rate(0, warmup_steps=0, num_steps=1, final_fraction=0) == 1.0
