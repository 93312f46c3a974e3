"""Review pages show any text as text and are reproducible; documents are checked."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import CharlstmError
from charlstm.evaluation.results import write_document
from charlstm.review.collect import thinned
from charlstm.review.document import read_losses, read_review
from charlstm.review.page import SHOWN, is_hidden, one_line, page_of, pieces_of, symbol, visible
from tests.support.reviews import HOSTILE, Page, cells, copy, review, sample

HOSTILE_REVIEW = review(
    [sample(HOSTILE, HOSTILE, copies=[copy(0, 40)])],
    parameters={HOSTILE: HOSTILE},
    losses={HOSTILE: review([]).losses["stateful"]},
)


def test_a_hostile_text_is_text() -> None:
    one = review([sample("x", "y", copies=[copy(0, 1)])])
    plain = Page(page_of(one, cells=cells("a label", "a plain text")))
    page = page_of(HOSTILE_REVIEW, cells=cells(HOSTILE, HOSTILE))
    hostile = Page(page)
    assert {tag for tag, _ in hostile.tags} - {tag for tag, _ in plain.tags} == set()
    assert hostile.scripts == plain.scripts and len(plain.scripts) == 1
    attributes = [
        (name, value or "") for _, attributes in hostile.tags for name, value in attributes.items()
    ]
    assert not [name for name, _ in attributes if name.startswith("on")]
    links = [value for name, value in attributes if name in ("href", "src", "xlink:href", "action")]
    assert len(links) > 3 and all(link.startswith("#") for link in links)
    assert not [one for one in set(page) if is_hidden(one)]
    text = "".join(hostile.texts)
    assert "<script>document.title = 'it ran'</script>" in text
    assert "{{ 7 * 7 }}{% raw %}&lt;" in text
    assert "U+202EgnirtsU+202C" in text and "U+0000U+0007U+001B[2JU+000D" in text


@given(st.text())
def test_any_text_is_shown_whole_and_nothing_of_it_is_obeyed(text: str) -> None:
    parsed = Page(str(visible(text)))
    assert {tag for tag, _ in parsed.tags} <= {"span"}
    back = "".join(parsed.texts)
    assert back == "".join(symbol(one) if is_hidden(one) else one for one in text)
    assert "\n" not in one_line(text) and not any(map(is_hidden, one_line(text)))


BIDI_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def test_what_could_rearrange_a_page_is_hidden() -> None:
    characters = map(chr, range(0x110000))
    directions = [one for one in characters if unicodedata.bidirectional(one) in BIDI_CONTROLS]
    assert len(directions) >= 9 and all(map(is_hidden, directions))
    assert all(map(is_hidden, "\0\x1b\r\x7f\x85\u200e\u200f\u2028\ufeff\ue000"))
    assert not any(map(is_hidden, ["é", *SHOWN]))


def test_the_page_needs_no_network_and_forbids_it() -> None:
    page = page_of(HOSTILE_REVIEW)
    (policy,) = [tag["content"] or "" for name, tag in Page(page).tags if tag.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline'; script-src 'sha256-" in policy
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttp", page)


def test_copies_are_marked_with_their_place() -> None:
    text = "0123456789" * 6
    overlapping = [copy(0, 25), copy(20, 20, line=1234), copy(22, 18, column=9), copy(50, 10)]
    one = sample(text, copies=overlapping)
    pieces = pieces_of(one)
    assert "".join(piece for piece, _ in pieces) == text
    # The third copy lies within the second.
    assert [len(piece) for piece, copied in pieces if copied] == [25, 15, 10]
    page = Page(page_of(review([one])))
    titles = [tag["title"] for name, tag in page.tags if name == "mark" and "title" in tag]
    assert len(titles) == 3 and titles[1] == "line 1234, column 4 of the training text"


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        page = page_of(HOSTILE_REVIEW, cells=cells(HOSTILE))
        (tmp_path / f"{name}.html").write_text(page, "utf-8")
        write_document(tmp_path / f"{name}.json", HOSTILE_REVIEW, indent=1)
    for kind in ("html", "json"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    again = read_review(tmp_path / "one.json")
    assert again == HOSTILE_REVIEW and page_of(again, cells=cells(HOSTILE)) == page


@pytest.mark.parametrize("content", [None, b"\xff", b'{"stateful": {"nats_per_char": NaN}}'])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    for read in (read_review, read_losses):
        with pytest.raises(CharlstmError, match=r"file\.json: .*`dvc repro ") as raised:
            read(file)
        assert "\n" not in str(raised.value)


def test_curves_are_thinned_to_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(1001)]
    found = thinned(points)
    assert len(found) == 334 and found[0] == (1.0, 0.33333)
    assert thinned(points[:500]) == points[:500]
    assert thinned([(1.0, np.nan), (2.0, np.inf)]) == [] == thinned([])
