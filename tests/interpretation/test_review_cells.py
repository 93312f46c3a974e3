"""The review page's section on single cells: all of an excerpt, its colors, and any text as text."""

import re
from pathlib import Path

import pytest
from browser import CHROMIUM, dom_of
from reviews import HOSTILE, Page, cells, review, sample

from charlstm.report.page import DARKEST, is_hidden, page_of, runs_of

REVIEW = review([sample("x")])


def section(page: str) -> str:
    (found,) = re.findall(r'<section id="cells">.*?</section>', page, re.DOTALL)
    return str(found)


def test_runs_are_the_excerpt_in_order() -> None:
    cell = cells("x", "abcdefghij" * 10).cells[0]
    runs = runs_of(cell)
    assert "".join(run.text for run in runs) == cell.excerpt
    assert [run.step for run in runs] == list(range(-DARKEST, DARKEST + 1))  # neighbors of one color are one run
    flat = cell.model_copy(update={"levels": [0] * len(cell.excerpt)})
    assert runs_of(flat) == [(cell.excerpt, 0)]


def test_the_section_says_what_was_found() -> None:
    found = section(page_of(REVIEW, cells=cells("line position")))
    text = " ".join("".join(Page(found).texts).split())
    for expected in (
        "Confirmed: 1 of 2.",
        "this model has 16",
        "2,000 characters",
        "12.5 characters",
        "unmeasurably long",
    ):
        assert expected in text
    assert "by chance" in text and "not confirmed for any label; nearest: another label" in text
    assert "0.0123 \u00b1 0.0010 nats/char" in text and "\u2013 elsewhere" in text
    classes = set(re.findall(r'<i class="(\w+)" title="(\S+)"', found))
    assert {("h4", "+4"), ("l4", "\u22124")} & classes and len(classes) >= 4
    style = page_of(REVIEW, cells=cells("x")).partition("</style>")[0]
    assert all(f".{name} " in style for name, _ in classes)
    assert found.count("<details") == 2 and found.count(" open>") == 1


def test_a_page_without_cells_says_why_or_nothing() -> None:
    none = cells("x", reason="the text has 9 characters", cells=[], tested=[])
    assert "Nothing was looked for: the text has 9 characters." in section(page_of(REVIEW, cells=none))
    assert 'id="cells"' not in page_of(REVIEW) and "#cells" not in page_of(REVIEW)
    unconfirmed = cells("x", tested=cells("x").tested[1:], cells=cells("x").cells[1:])
    assert "<strong>No cell is confirmed.</strong>" in section(page_of(REVIEW, cells=unconfirmed))


def test_a_hostile_text_is_text() -> None:
    plain, hostile = (Page(section(page_of(REVIEW, cells=cells(one, one)))) for one in ("a plain text", HOSTILE))
    assert {tag for tag, _ in hostile.tags} - {tag for tag, _ in plain.tags} <= {"span", "i"}
    attributes = [(name, value or "") for _, attributes in hostile.tags for name, value in attributes.items()]
    assert {name for name, _ in attributes} <= {"id", "class", "title", "dir", "open"}
    page = page_of(REVIEW, cells=cells(HOSTILE, HOSTILE))
    assert not [one for one in set(page) if is_hidden(one)]
    assert "it ran" not in "".join(Page(page).scripts)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, e.g. `apt-get install chromium`")
def test_a_browser_shows_the_section_with_scripts_and_without(tmp_path: Path) -> None:
    page = page_of(REVIEW, cells=cells(HOSTILE, HOSTILE))
    for name, content in (("with", page), ("without", re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL))):
        file = tmp_path / f"{name}.html"
        file.write_text(content, encoding="utf-8")
        dom = dom_of(file)
        assert "<title>it ran" not in dom and dom.count('<details class="cell"') == 2
        assert "<iframe" not in dom and "<img" not in dom and 'class="h4"' in dom
