"""A process that is slow is found, and one that is slow for a moment is not."""

import pytest

from charlstm.training.slow_processes import SlowProcesses


def found(seconds_of_rank_1: list[float], rest: tuple[float, ...] = (1.0, 1.1)) -> list[int]:
    """At which seconds; each is a call."""
    slow, seconds = SlowProcesses([1] * (1 + len(rest))), []
    for second, own in enumerate(seconds_of_rank_1):
        told = slow.find([rest[0], own, *rest[1:]], float(second))
        assert [rank for rank, _ in told] in ([], [1])
        seconds += [second for _ in told]
    return seconds


def test_one_that_is_slow_for_a_minute_is_found_once() -> None:
    assert found([1.0] + [2.0] * 200) == [48]


def test_it_says_how_slow() -> None:
    slow = SlowProcesses([1, 1, 1])
    told = [one for second in range(60) for one in slow.find([1.0, 2.0, 1.0], float(second))]
    ((rank, times),) = told
    assert rank == 1 and times == pytest.approx(2.0)


def test_single_steps_do_not_matter() -> None:
    assert found([1.0, *([3.0, 3.0, 0.9] * 50)]) == [48]
    assert found([1.0, *([1.0, 1.0, 2.9] * 50)]) == []


def test_one_that_recovers_is_found_again_when_it_is_slow_again() -> None:
    assert found([2.0] * 72 + [1.0] * 24 + [2.0] * 80) == [48, 144]


@pytest.mark.parametrize("seconds", [[], [0.0, 0.0], [0.0, 1.0], [1.0], [1.0, 1.4], [1.0, 1.4, 1.4]])
def test_nobody_is_slow_among_equals(seconds: list[float]) -> None:
    slow = SlowProcesses([1] * max(1, len(seconds)))
    assert not any(slow.find(seconds, float(second)) for second in range(200))


def test_of_two_the_slower_one_is_found() -> None:
    assert found([1.6] * 60, rest=(1.0,)) == [48]


def test_who_computes_more_rows_may_take_longer() -> None:
    for seconds, is_slow in ((2.9, False), (3.3, True)):
        slow = SlowProcesses([2, 1, 1])
        told = [slow.find([seconds, 1.0, 1.1], float(second)) for second in range(200)]
        assert any(told) == is_slow


def test_steps_that_were_all_skipped_say_nothing() -> None:
    slow = SlowProcesses([1, 1])
    told = [one for second in range(200) for one in slow.find([1.0, 2.0] if second % 3 else [], float(second))]
    assert [rank for rank, _ in told] == [1]
