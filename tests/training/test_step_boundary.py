"""How often processes agree whether to save or stop."""

import pytest

from charlstm.training.step_boundary import MAX_STEPS_BETWEEN_AGREEMENTS, steps_until_next


@pytest.mark.parametrize(
    ("seconds_per_step", "num_steps"),
    [(0.25, 4), (0.02, 50), (1e-6, MAX_STEPS_BETWEEN_AGREEMENTS), (0.0, 100), (30, 1)],
)
def test_about_one_agreement_a_second(seconds_per_step: float, num_steps: int) -> None:
    assert steps_until_next(seconds_per_step) == num_steps
