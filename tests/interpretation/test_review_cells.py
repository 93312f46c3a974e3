"""The review page's section on single cells: complete excerpts, and colors."""

from charlstm.review.page import DARKEST, runs_of
from tests.support.reviews import cells


def test_runs_are_the_excerpt_in_order() -> None:
    one = cells("x", "abcdefghij" * 10).tested[0]
    runs = runs_of(one)
    assert "".join(text for text, _ in runs) == one.excerpt
    # Neighbors of one color are one run.
    assert [color for _, color in runs] == [*range(-DARKEST, DARKEST + 1)]
