"""Files and folders are complete or absent, and checksums find damage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from charlstm.errors import ChecksumError
from charlstm.files.atomic import atomic_file, atomic_folder, write_text
from charlstm.files.checksums import SUMS, verify, write_sums


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_last_whole_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_folder(path) as temporary:
            (temporary / content).write_text(content)
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_file(path) as first:
        first.write_text("first")
        with atomic_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_a_day_later(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal\n"
        "from charlstm.files.atomic import atomic_file, atomic_folder\n"
        "with atomic_file(pathlib.Path('file')) as file, atomic_folder(pathlib.Path('folder')):\n"
        "    file.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    left = list(tmp_path.iterdir())
    assert done.returncode == -signal.SIGKILL and len(left) == 2

    def write() -> list[str]:
        write_text(tmp_path / "file", "")
        with atomic_folder(tmp_path / "folder"):
            pass
        return sorted(file.name for file in tmp_path.iterdir())

    # At first, the writers may still be alive.
    assert write() == sorted(["file", "folder", *(file.name for file in left)])
    for file in left:
        os.utime(file, (0, 0))
    assert write() == ["file", "folder"]


def test_names_that_only_look_like_leftovers_stay(tmp_path: Path) -> None:
    names = [".file.tmp", ".file.mine.tmp", ".file.lock"]
    names += [".file.v2.0123abcd.tmp", ".file.v2.0123abcd.old"]
    for name in names:
        (tmp_path / name).touch()
    write_text(tmp_path / "file", "")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "file"])


def test_whole_files_pass_and_others_do_not(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path / SUMS, ["a.txt", "b.txt"])
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path, check=True)
    verify(tmp_path / SUMS, ["a.txt", "b.txt"])
    (tmp_path / "b.txt").write_text("B.txt")
    verify(tmp_path / SUMS, ["a.txt"])
    for name in ("b.txt", "c.txt"):
        expected = f"{name} is damaged or comes from another run: SHA256SUMS expects SHA-256 "
        with pytest.raises(ChecksumError, match=expected):
            verify(tmp_path / SUMS, ["a.txt", name])
