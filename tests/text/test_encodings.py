"""Encodings: detection, names, and guesses about a bad byte."""

import re
from pathlib import Path

import pytest

from charlstm.corpus.encodings import check_encoding, detect_encoding, explain
from charlstm.corpus.parts import BadByteError, decoded
from charlstm.errors import CorpusError

RUSSIAN = (
    "Все счастливые семьи похожи друг на друга,\n"
    "каждая несчастливая семья несчастлива по-своему.\n"
    "Всё смешалось в доме Облонских.\n"
)
CHINESE = "话说天下大势,分久必合,合久必分。周末七国分争,并入于秦。\n"
GERMAN = "Über die Straße lief der Bär. Schöne Grüße aus Köln.\nEr sagte nichts.\n"
CASES = [(RUSSIAN, "cp1251"), (RUSSIAN, "utf-16"), (CHINESE, "gb18030"), (GERMAN, "cp1252")]


def explained(folder: Path, content: bytes) -> str:
    """Return the explanation of a file with a bad byte."""
    (folder / "text").write_bytes(content)
    with pytest.raises(BadByteError) as caught:
        list(decoded([content]))
    return explain(caught.value, folder / "text")


@pytest.mark.parametrize(("text", "name"), CASES)
def test_a_guess_is_a_question_with_the_likeliest_encoding_first(
    tmp_path: Path, text: str, name: str
) -> None:
    start = "in ASCII\n"
    place = "at offset 9 (line 2)"
    if name == "utf-16":
        start = ""
        place = "offset 0 (line 1)"
    for num_times in (1, 1000):
        content = start.encode() + (text * num_times).encode(name)
        message = explained(tmp_path, content)
        (read,) = re.findall(f"may be {name}, which decodes the text as '(.*?)'", message)
        assert len(read) >= 10 and read in " ".join((text * 2).split())
        assert place in message


def test_ascii_in_wide_characters_without_a_mark_is_no_utf8(tmp_path: Path) -> None:
    for name in ("utf-16-le", "utf-16-be", "utf-32-le"):
        # Each byte of the text is also valid UTF-8.
        (tmp_path / "text").write_bytes(("plain words\n" * 20).encode(name))
        with pytest.raises(CorpusError, match=f"found NUL bytes: .* e.g. .*{name}"):
            detect_encoding(tmp_path / "text")


def test_a_damaged_utf8_text_is_no_other_encoding(tmp_path: Path) -> None:
    damaged = RUSSIAN.encode() + b"\xd0" + RUSSIAN.encode()
    assert "the text around it is UTF-8" in explained(tmp_path, damaged)
    noise = bytes(range(0x80, 0x100)) * 10 + bytes(range(0x20))
    assert "the file is not a text in any known encoding" in explained(tmp_path, noise)


def test_names_of_encodings() -> None:
    names = {"UTF8": "utf-8", "windows-1251": "cp1251", "latin1": "iso8859-1"}
    for name, expected in names.items():
        assert check_encoding(name) == expected
    for name in ("klingon", "hex", "rot13", "undefined", "a\0b", ""):
        with pytest.raises(CorpusError, match="^download.encoding: "):
            check_encoding(name)


def test_certain_encodings_are_detected(tmp_path: Path) -> None:
    for content, name in {
        b"plain words\n": "utf-8",
        "a caf\u00e9\n".encode(): "utf-8",
        "\ufeffabc".encode(): "utf-8-sig",
        "\ufeffabc".encode("utf-16-be"): "utf-16",
        "abc".encode("utf-32"): "utf-32",
    }.items():
        (tmp_path / "text").write_bytes(content)
        assert detect_encoding(tmp_path / "text") == name
