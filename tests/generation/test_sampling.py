"""The values that options of sampling take: both ends of each range."""

import pytest

from charlstm.errors import TextRequestError
from charlstm.sampling import RULES, checked_number


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("num_chars", [1, 10**6], [0, -1, 1.5]),
        ("num_texts", [1, 100_000], [0, 100_001]),
        ("temperature", [0, 0.5, 2], [-0.1, float("nan"), float("inf")]),
        ("top_k", [1, 65], [0]),
        ("top_p", [0.001, 1], [0, 1.001]),
    ],
)
def test_both_ends_of_a_range(name: str, allowed: list[float], refused: list[float]) -> None:
    assert [checked_number(name, value, RULES[name]) for value in allowed] == allowed
    for value in refused:
        with pytest.raises(TextRequestError, match=f"{name}: expected a "):
            checked_number(name, value, RULES[name])
