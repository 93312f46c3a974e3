"""What is counted of a text does not depend on where it was cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.corpus import Characters
from charlstm.text.inspection import Findings, Inspection, Repeated


def inspect(*pieces: Characters) -> Findings:
    inspection = Inspection()
    for piece in pieces:
        inspection.add(piece)
    return inspection.findings()


@given(st.text(st.sampled_from("ab\r\nж☃")), st.lists(st.integers(0, 30), max_size=5))
def test_pieces_are_counted_like_the_whole(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    found = inspect(*(piece.encode() if piece.isascii() else piece for piece in pieces))
    assert found.num_chars == len(text)
    assert found.counts == {one: text.count(one) for one in set(text)}
    lines = text.split("\n")
    assert found.num_lines == len(lines) - (lines[-1] == "")
    assert found.longest_line == max(map(len, lines))
    assert (found.num_crlf, found.num_lone_cr) == (text.count("\r\n"), text.replace("\r\n", "").count("\r"))


def test_scripts_have_the_names_of_unicode() -> None:
    scripts = inspect("Привет, мир ab\n道名γ").scripts()
    found = {script: round(18 * share) for script, share in scripts}
    assert found == {"Cyrillic": 9, "spaces": 2, "punctuation": 1, "Latin": 2, "CJK": 2, "Greek": 1, "controls": 1}
    assert scripts[0][0] == "Cyrillic"


def test_lines_over_and_over_are_noticed() -> None:
    text = "".join(f"{'This is no page of the book.'}\nline {index}, which is like no other\n" for index in range(20))
    found = inspect(text).repeated
    assert found is not None
    assert (found.commonest, found.num_times) == ("This is no page of the book.", 20)
    assert found.share == pytest.approx(20 * 29 / len(text))
    assert inspect("a\nb\n" * 50).repeated is None


def test_characters_by_category() -> None:
    found = inspect("a\x00\x00\x07\ue000")
    assert found.of_category("Cc") == {"\x00": 2, "\x07": 1} and found.of_category("Co") == {"\ue000": 1}
    assert isinstance(found.repeated, Repeated | None)


def test_line_ends_that_become_line_feeds() -> None:
    found = inspect("a line of the text, long\r\n" * 20 + "b\rc\n").with_line_feeds()
    assert found == inspect("a line of the text, long\n" * 20 + "b\rc\n")._replace(
        num_crlf=20, repeated=found.repeated, longest_line=24
    )
    assert found.repeated is not None and found.repeated.commonest == "a line of the text, long"
    assert inspect("a\rb\n").with_line_feeds() == inspect("a\rb\n")
