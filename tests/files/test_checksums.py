import subprocess
from pathlib import Path

import pytest

from charlstm.errors import ChecksumError
from charlstm.files.checksums import SUMS, sums_of, verify, write_sums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path / SUMS, ["a.txt", "b.txt"])
    return tmp_path


def test_the_format_is_that_of_sha256sum(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=folder, check=True)


def test_whole_files_pass_and_changed_ones_do_not(folder: Path) -> None:
    verify(folder / SUMS, ["a.txt", "b.txt"])
    (folder / "b.txt").write_text("B.txt")
    verify(folder / SUMS, ["a.txt"])
    with pytest.raises(ChecksumError, match=r"b.txt: damaged, or of another run: SHA256SUMS expects SHA-256 \w{64}"):
        verify(folder / SUMS, ["a.txt", "b.txt"])


def test_a_file_without_a_checksum_does_not_pass(folder: Path) -> None:
    (folder / "c.txt").write_text("c")
    with pytest.raises(ChecksumError, match="SHA256SUMS: expected a line with the SHA-256 of c.txt, found none"):
        verify(folder / SUMS, ["c.txt"])


def test_checksums_that_are_missing_or_damaged(folder: Path) -> None:
    with pytest.raises(ChecksumError, match="other.sha256: cannot read the checksums: No such file"):
        verify(sums_of(folder / "other"), ["other"])
    (folder / SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(ChecksumError, match="it is damaged"):
        verify(folder / SUMS, ["a.txt"])
