from pathlib import Path

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from charlstm.corpus.parts import Corpus, read_text
from charlstm.errors import CorpusError
from charlstm.files import pieces
from charlstm.files.atomic import write_text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_text_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    write_text(path, text)
    assert read_text(path) == text


def test_newlines_and_byte_order_marks_stay(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "text.txt") == "\ufeffa\r\nb\rc\n"


def test_bad_bytes_are_located(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"na\xefve")
    with pytest.raises(CorpusError, match="byte 0xef at offset 2"):
        read_text(tmp_path / "text.txt")


def corpus_of(path: Path, content: str, piece_bytes: int, *options: float | str | None) -> dict[str, tuple[bytes, int]]:
    """The bytes and the number of characters of each part."""
    path.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece_bytes)
        parts = Corpus(path, pieces.read_pieces(path)).parts(*options)  # type: ignore[arg-type]
        return {
            name: (b"".join(pieces.read_pieces(path, part.start, part.end)), part.num_chars)
            for name, part in parts.items()
        }


@given(
    st.text(st.sampled_from("ab\né€😀"), min_size=1, max_size=60),
    st.floats(0.05, 0.9),
    st.just(0.0) | st.floats(0.01, 0.9),
    st.none() | st.sampled_from(["\n", "ab", "€", "aa", "😀\n"]),
    st.integers(1, 20),
)
def test_parts_are_those_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    val_fraction: float,
    test_fraction: float,
    separator: str | None,
    piece_bytes: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "text.txt"
    expected = reference.split(text, val_fraction, test_fraction, separator)
    assert "".join(expected.values()) == text
    if min(map(len, expected.values())) < 2:
        with pytest.raises(CorpusError, match="each needs at least 2: take a longer text or"):
            corpus_of(path, text, piece_bytes, val_fraction, test_fraction, separator)
    else:
        found = corpus_of(path, text, piece_bytes, val_fraction, test_fraction, separator)
        assert found == {name: (part.encode(), len(part)) for name, part in expected.items()}


def test_tiny_shakespeare_splits_as_published(tmp_path: Path) -> None:
    parts = corpus_of(tmp_path / "text.txt", "x" * 1_115_394, 1 << 20, 0.1, 0.0, None)
    assert [num_chars for _, num_chars in parts.values()] == [1_003_854, 111_540]


def test_parts_begin_with_a_document(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"# {number}\nwords\n" for number in range(10)))  # of 10 characters each
    parts = Corpus(path, pieces.read_pieces(path)).parts(0.17, 0.13, "# ")
    assert [part.start for part in parts.values()] == [0, 70, 90]


def test_a_document_that_is_longer_than_a_part_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("# " + "a" * 28 + "# " + "b" * 63 + "# ccc")  # documents at 0, 30 and 95
    parts = Corpus(path, pieces.read_pieces(path)).parts(0.1, 0.1, "# ")
    assert [part.start for part in parts.values()] == [0, 80, 95]


@pytest.mark.parametrize(("last", "start"), [("", 90), ("c", 90), ("ccc", 95)])
def test_less_than_half_of_a_part_is_not_enough(tmp_path: Path, last: str, start: int) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"# {'a' * (96 - len(last))}# {last}")
    parts = Corpus(path, pieces.read_pieces(path)).parts(0.1, 0.0, "# ")
    assert [part.start for part in parts.values()] == [0, start]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.1, 0.0), "10 characters splits into 9 for training, 1 for validation; .* another split.val_fraction"),
        ((0.3, 0.1), "splits into 6 for training, 3 for validation, 1 for the test; .* or other fractions"),
        ((0.5, 0.6), "splits into 0 for training, 4 for validation, 6 for the test"),
    ],
)
def test_too_short_a_text(tmp_path: Path, fractions: tuple[float, float], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        corpus_of(tmp_path / "text.txt", "0123456789", 100, *fractions, None)
