"""What is counted of a text does not depend on where it was cut."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import CorpusError
from pipeline.new.text_report import inspect, oddities, report_on


@given(st.text(st.sampled_from("ab\r\nж☃")), st.lists(st.integers(0, 30), max_size=5))
def test_pieces_are_counted_like_the_whole(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    report = inspect(pieces)
    converted = text.replace("\r\n", "\n")
    assert report.num_chars == len(converted) == len(text) - report.num_crlf
    assert report.counts == {one: converted.count(one) for one in set(converted)}
    lines = converted.split("\n")
    assert report.num_lines == len(lines) - (lines[-1] == "")


def test_scripts_have_the_names_of_unicode() -> None:
    scripts = inspect(["Привет, мир ab\n道名γ"]).scripts()
    found = {script: round(18 * share) for script, share in scripts}
    assert found == {"Cyrillic": 9, "spaces": 2, "punctuation": 1, "Latin": 2, "CJK": 2, "Greek": 1, "controls": 1}
    assert scripts[0][0] == "Cyrillic"


def test_characters_by_category() -> None:
    found = list(oddities(inspect(["a\x00\x00\x07\ue000\r"])))
    assert len(found) == 3 and found[1].startswith("control characters: '\\x00' (U+0000, 2 times), '\\x07' (U+0007, ")
    assert found[2].startswith("private-use characters: '\\ue000' (U+E000, once); ")


def test_files_of_ascii_go_with_others(tmp_path: Path) -> None:
    text = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n" * 9
    for file, content in {"a": text.encode(), "b": b"plain words\n"}.items():
        (tmp_path / file).write_bytes(content)
    report = report_on([tmp_path / "a", tmp_path / "b"], "\n")
    assert report.encoding == "utf-8" and report.counts["п"] > 0 and report.counts["p"] > 0
    (tmp_path / "b").write_text(text, encoding="utf-16")
    with pytest.raises(CorpusError, match="expected files in one encoding, found several .* by --encoding"):
        report_on([tmp_path / "a", tmp_path / "b"], "\n")


def test_half_of_a_surrogate_pair_is_no_character(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"plain words and \\ud800 no character\n")
    with pytest.raises(CorpusError, match=r"a: as unicode.escape, it has what is no character: surrogates not allowed"):
        report_on([tmp_path / "a"], "\n", "unicode_escape")
