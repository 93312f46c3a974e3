"""Characters in pieces of a file, the place of a bad byte, and the parts of a corpus."""

from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.corpus.parts import parts_of, read_characters
from charlstm.errors import CorpusError
from charlstm.files import atomic
from tests.support import reference

TEXTS = st.text(st.sampled_from("ab\n é€😀\U0010ffff\x00\x7f\x80"), max_size=60)


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """Return pieces of these sizes, and the rest."""
    bounds = [0, *accumulate(sizes), max(len(content), sum(sizes))]
    return [content[start:end] for start, end in pairwise(bounds)]


@given(
    st.binary(max_size=12) | TEXTS.map(str.encode),
    st.just(b"") | st.binary(max_size=4),
    TEXTS,
    st.lists(st.integers(0, 5)),
)
def test_a_text_is_read_or_a_bad_byte_found_wherever_pieces_are_cut(
    tmp_path_factory: pytest.TempPathFactory,
    before: bytes,
    bad: bytes,
    after: str,
    sizes: list[int],
) -> None:
    content = b"x" + before + bad + after.encode()
    path = tmp_path_factory.getbasetemp() / "bad.txt"
    path.write_bytes(content)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        where = rf"byte 0x{content[error.start]:02x} at offset {error.start} \(line {line}\)"
        with pytest.raises(CorpusError, match=where):
            list(read_characters(cut(content, sizes), path))
    else:
        assert "".join(read_characters(cut(content, sizes), path)) == content.decode()


def corpus_of(
    path: Path, content: str, piece_bytes: int, *options: float | str | None
) -> dict[str, tuple[bytes, int]]:
    """Return the bytes and the number of characters of each part."""
    path.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "PIECE_BYTES", piece_bytes)
        parts = parts_of(path, *options)  # type: ignore[arg-type]
        return {
            name: (b"".join(atomic.read_pieces(path, part.start, part.end)), part.num_chars)
            for name, part in parts.items()
        }


@given(
    st.text(st.sampled_from("ab\né€😀"), min_size=1, max_size=60),
    st.floats(0.05, 0.9),
    st.just(0.0) | st.floats(0.01, 0.9),
    st.integers(1, 20),
)
def test_parts_are_those_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    val_fraction: float,
    test_fraction: float,
    piece_bytes: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "text.txt"
    expected = reference.split(text, val_fraction, test_fraction)
    assert "".join(expected.values()) == text
    if min(map(len, expected.values())) < 2:
        with pytest.raises(CorpusError, match="each part needs at least 2 characters:"):
            corpus_of(path, text, piece_bytes, val_fraction, test_fraction)
    else:
        found = corpus_of(path, text, piece_bytes, val_fraction, test_fraction)
        assert found == {name: (part.encode(), len(part)) for name, part in expected.items()}


def test_tiny_shakespeare_splits_as_published(tmp_path: Path) -> None:
    parts = corpus_of(tmp_path / "text.txt", "x" * 1_115_394, 1 << 20, 0.1, 0.0)
    assert [num_chars for _, num_chars in parts.values()] == [1_003_854, 111_540]
