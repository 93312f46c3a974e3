"""Characters in pieces of a file, and the place of a bad byte."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.corpus.parts import TextReader, read_characters
from charlstm.errors import CorpusError

TEXTS = st.text(st.sampled_from("ab\n é€😀\U0010ffff\x00\x7f\x80"), max_size=60)


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """Return pieces of these sizes, and the rest."""
    bounds = [0, *accumulate(sizes), max(len(content), sum(sizes))]
    return [content[start:end] for start, end in pairwise(bounds)]


@given(TEXTS, st.lists(st.integers(0, 9)))
def test_pieces_give_the_text_wherever_they_are_cut(text: str, sizes: list[int]) -> None:
    reader = TextReader()
    found = [reader.read(piece) for piece in cut(text.encode(), sizes)]
    reader.read(b"", is_end=True)
    assert "".join(found) == text


@given(
    st.binary(max_size=12) | TEXTS.map(str.encode),
    st.binary(max_size=4),
    TEXTS,
    st.lists(st.integers(0, 5)),
)
def test_a_bad_byte_is_found_where_python_finds_it(
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
        assert sum(map(len, read_characters(cut(content, sizes), path))) == len(content.decode())
