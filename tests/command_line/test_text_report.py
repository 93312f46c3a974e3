"""What is counted of a text does not depend on where it was cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.new.text_report import inspect, oddities


@given(st.text(st.sampled_from("ab\r\nж☃")), st.lists(st.integers(0, 30), max_size=5))
def test_pieces_are_counted_like_the_whole(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    report = inspect(piece.encode() if piece.isascii() else piece for piece in pieces)
    converted = text.replace("\r\n", "\n")
    assert report.num_chars == len(converted) == len(text) - report.num_crlf
    assert report.counts == {one: converted.count(one) for one in set(converted)}
    lines = converted.split("\n")
    assert report.num_lines == len(lines) - (lines[-1] == "")
    assert report.longest_line == max(map(len, lines))


def test_scripts_have_the_names_of_unicode() -> None:
    scripts = inspect(["Привет, мир ab\n道名γ"]).scripts()
    found = {script: round(18 * share) for script, share in scripts}
    assert found == {"Cyrillic": 9, "spaces": 2, "punctuation": 1, "Latin": 2, "CJK": 2, "Greek": 1, "controls": 1}
    assert scripts[0][0] == "Cyrillic"


def test_lines_over_and_over_are_noticed() -> None:
    text = "".join(f"{'This is no page of the book.'}\nline {index}, which is like no other\n" for index in range(20))
    report = inspect([text])
    assert (report.repeated_line, report.num_repeats) == ("This is no page of the book.", 20)
    assert report.repeated_share == pytest.approx(20 * 29 / len(text))
    assert inspect(["a\nb\n" * 50]).repeated_share == 0


def test_characters_by_category() -> None:
    report = inspect(["a\x00\x00\x07\ue000\r"])
    assert report.of_category("Cc") == {"\x00": 2, "\x07": 1, "\r": 1} and report.of_category("Co") == {"\ue000": 1}
    assert [line for line in oddities(report) if line.startswith("control characters: U+0000 (NUL) 2 times, U+0007 1")]
