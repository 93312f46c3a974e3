import time

import pytest

from charlstm.pauses import MAX_STEPS_BETWEEN_AGREEMENTS, Pauses
from charlstm.processes import Processes


class TwoAlike(Processes):
    """As two processes that always give the same values."""

    def __init__(self) -> None:
        pass

    count = 2  # type: ignore[assignment]

    def largest(self, mine: list[float]) -> list[float]:  # type: ignore[override]
        return mine


@pytest.mark.parametrize("first_step", [0, 10_000])
def test_processes_agree_once_a_second_however_late_they_start(first_step: int) -> None:
    asked = []
    pauses = Pauses(TwoAlike(), None, lambda: bool(asked.append(None)))
    pauses.begin(first_step)
    for step in range(first_step + 1, first_step + 13):
        time.sleep(0.25)
        assert not pauses.pause(step, pytest.fail)
    assert 3 <= len(asked) <= 6  # 3 seconds


def test_fast_steps_still_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pauses = Pauses(TwoAlike(), None, lambda: bool(asked.append(None)))
    pauses.begin(0)
    for step in range(1, 10 * MAX_STEPS_BETWEEN_AGREEMENTS):
        pauses.pause(step, pytest.fail)
    assert len(asked) >= 9
