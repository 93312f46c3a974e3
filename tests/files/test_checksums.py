import subprocess
from pathlib import Path

import pytest

from charlstm.errors import ChecksumError
from charlstm.files.atomic import SUMS, verify, write_sums


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
