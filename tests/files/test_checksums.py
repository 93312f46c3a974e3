import subprocess
from pathlib import Path

import pytest

from charlstm.errors import ChecksumError
from charlstm.files.checksums import SUMS, sums_of, verify, write_sums


def test_whole_files_pass_and_others_do_not(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path / SUMS, ["a.txt", "b.txt"])
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path, check=True)
    verify(tmp_path / SUMS, ["a.txt", "b.txt"])
    (tmp_path / "b.txt").write_text("B.txt")
    verify(tmp_path / SUMS, ["a.txt"])
    for name in ("b.txt", "c.txt"):
        with pytest.raises(ChecksumError, match=f"{name}: damaged, or of another run: SHA256SUMS expects SHA-256 "):
            verify(tmp_path / SUMS, ["a.txt", name])


def test_checksums_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ChecksumError, match="other.sha256: cannot read the checksums: No such file"):
        verify(sums_of(tmp_path / "other"), ["other"])
    for content in (b"\xff\xfe", b"x\n"):
        (tmp_path / SUMS).write_bytes(content)
        with pytest.raises(ChecksumError, match="expected a SHA-256, two spaces and a name"):
            verify(tmp_path / SUMS, ["a.txt"])
