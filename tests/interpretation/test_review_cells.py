"""The review page's section on single cells: complete excerpts, and colors."""

import re

from charlstm.report.page import DARKEST, page_of, runs_of
from tests.support.reviews import Page, cells, review, sample

REVIEW = review([sample("x")])


def section(page: str) -> str:
    (found,) = re.findall(r'<section id="cells">.*?</section>', page, re.DOTALL)
    return str(found)


def test_runs_are_the_excerpt_in_order() -> None:
    one = cells("x", "abcdefghij" * 10).tested[0]
    runs = runs_of(one)
    assert "".join(run.text for run in runs) == one.excerpt
    # Neighbors of one color are one run.
    assert [run.step for run in runs] == [*range(-DARKEST, DARKEST + 1)]


def test_the_section_says_what_was_found() -> None:
    found = section(page_of(REVIEW, cells=cells("line position")))
    text = " ".join("".join(Page(found).texts).split())
    for expected in (
        "Confirmed: 1 of 2.",
        "This model has 16 cells",
        "2,000 characters",
        "layer 1, unit 7",
        "may be chance",
    ):
        assert expected in text
    classes = set(re.findall(r'<i class="(\w+)" title="\S+"', found))
    style = page_of(REVIEW, cells=cells("x")).partition("</style>")[0]
    assert len(classes) >= 4 and all(f".{name} " in style for name in classes)
    assert found.count("<details") == found.count(" open>") == 1
