"""Texts on disk, and the parts of a corpus."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.corpus.parts import Corpus, read_characters
from charlstm.errors import CorpusError
from charlstm.files import pieces
from charlstm.files.atomic import write_text
from tests.support import reference


def read_text(path: Path) -> str:
    return "".join(read_characters(pieces.read_pieces(path), path))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_text_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    write_text(path, text)
    assert read_text(path) == text


def test_newlines_and_byte_order_marks_stay(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "text.txt") == "\ufeffa\r\nb\rc\n"


def corpus_of(
    path: Path, content: str, piece_bytes: int, *options: float | str | None
) -> dict[str, tuple[bytes, int]]:
    """Return the bytes and the number of characters of each part."""
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
        with pytest.raises(CorpusError, match="each part needs at least 2: use a longer text or"):
            corpus_of(path, text, piece_bytes, val_fraction, test_fraction, separator)
    else:
        found = corpus_of(path, text, piece_bytes, val_fraction, test_fraction, separator)
        assert found == {name: (part.encode(), len(part)) for name, part in expected.items()}


def test_tiny_shakespeare_splits_as_published(tmp_path: Path) -> None:
    parts = corpus_of(tmp_path / "text.txt", "x" * 1_115_394, 1 << 20, 0.1, 0.0, None)
    assert [num_chars for _, num_chars in parts.values()] == [1_003_854, 111_540]


def test_a_document_that_is_longer_than_a_part_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    # The documents begin at 0, 30 and 95.
    path.write_text("# " + "a" * 28 + "# " + "b" * 63 + "# ccc")
    parts = Corpus(path, pieces.read_pieces(path)).parts(0.1, 0.1, "# ")
    assert [part.start for part in parts.values()] == [0, 80, 95]
