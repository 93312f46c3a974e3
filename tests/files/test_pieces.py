import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.files import atomic
from charlstm.files.atomic import find, read_pieces, write_pieces


@given(
    st.binary(max_size=50), st.integers(1, 60), st.integers(0, 55), st.none() | st.integers(0, 55)
)
def test_any_stretch_of_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    piece_bytes: int,
    start: int,
    end: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "stretch"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "PIECE_BYTES", piece_bytes)
        found = list(read_pieces(path, start, end))
    assert b"".join(found) == content[start:end]
    assert all(0 < len(piece) <= piece_bytes for piece in found)


@given(
    st.text("ab", min_size=1, max_size=40),
    st.text("ab", min_size=1, max_size=4),
    st.integers(0, 10),
)
def test_the_first_place_is_found(
    tmp_path_factory: pytest.TempPathFactory, text: str, sought: str, start: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "sought"
    path.write_text(text)
    assert find(path, sought.encode(), start) == text.find(sought, start)


def test_a_failed_check_keeps_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def check(found: str) -> None:
        raise ValueError(found)

    with pytest.raises(ValueError, match=hashlib.sha256(b"after").hexdigest()):
        write_pieces(tmp_path / "file", [b"after"], check=check)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]
