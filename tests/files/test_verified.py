from pathlib import Path

import pytest

from charlstm.errors import ChecksumError, CorpusError
from charlstm.files.checksums import SUMS, verified, write_sums


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    (tmp_path / "text").write_bytes(b"as it was")
    write_sums(tmp_path / SUMS, ["text"])
    return tmp_path / SUMS


def test_the_pieces_are_the_file(sums: Path) -> None:
    with verified(sums, "text") as pieces:
        assert b"".join(pieces) == b"as it was"


def test_a_changed_file_is_noticed_however_much_of_it_was_read(sums: Path) -> None:
    with verified(sums, "text"):
        pass
    (sums.parent / "text").write_bytes(b"as it is")
    with pytest.raises(ChecksumError, match="text: damaged, or of another run"), verified(sums, "text"):
        pass


def test_what_is_wrong_with_the_bytes_matters_only_if_they_are_the_right_ones(sums: Path) -> None:
    with pytest.raises(CorpusError, match="no text"), verified(sums, "text"):
        raise CorpusError("no text")
    (sums.parent / "text").write_bytes(b"\xff")
    with pytest.raises(ChecksumError, match="text: damaged, or of another run"), verified(sums, "text"):
        raise CorpusError("no text")
