"""The review page's section on single cells: all of an excerpt, its colors, and any text as text."""

import re

from charlstm.report.page import DARKEST, is_hidden, page_of, runs_of
from tests.support.reviews import HOSTILE, Page, cells, review, sample

REVIEW = review([sample("x")])


def section(page: str) -> str:
    (found,) = re.findall(r'<section id="cells">.*?</section>', page, re.DOTALL)
    return str(found)


def test_runs_are_the_excerpt_in_order() -> None:
    one = cells("x", "abcdefghij" * 10).tested[0]
    runs = runs_of(one)
    assert "".join(run.text for run in runs) == one.excerpt
    assert [run.step for run in runs] == list(
        range(-DARKEST, DARKEST + 1)
    )  # neighbors of one color are one run


def test_the_section_says_what_was_found() -> None:
    found = section(page_of(REVIEW, cells=cells("line position")))
    text = " ".join("".join(Page(found).texts).split())
    for expected in (
        "Confirmed: 1 of 2.",
        "this model has 16",
        "2,000 characters",
        "layer 1, unit 7",
        "may be chance",
    ):
        assert expected in text
    classes = set(re.findall(r'<i class="(\w+)" title="\S+"', found))
    style = page_of(REVIEW, cells=cells("x")).partition("</style>")[0]
    assert len(classes) >= 4 and all(f".{name} " in style for name in classes)
    assert found.count("<details") == found.count(" open>") == 1


def test_a_hostile_text_is_text() -> None:
    plain, hostile = (
        Page(section(page_of(REVIEW, cells=cells(one, one)))) for one in ("a plain text", HOSTILE)
    )
    assert {tag for tag, _ in hostile.tags} - {tag for tag, _ in plain.tags} <= {"span", "i"}
    attributes = {name for _, attributes in hostile.tags for name in attributes}
    assert attributes <= {"id", "class", "title", "dir", "open"}
    page = page_of(REVIEW, cells=cells(HOSTILE, HOSTILE))
    assert not [one for one in set(page) if is_hidden(one)]
    assert "it ran" not in "".join(Page(page).scripts)
