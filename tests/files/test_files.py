import errno
import fcntl
import itertools
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from charlstm.files import atomic
from charlstm.files.atomic import (
    SpecialFileError,
    atomic_file,
    atomic_folder,
    open_regular,
    sha256,
    write_text,
)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_folder(path) as temporary:
            (temporary / content).write_text(content)
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "mine", "")
    assert (tmp_path / "mine").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_that_somebody_holds_for_long_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `flock FOLDER COMMAND` does, by which cron runs a command once at a time."""
    monkeypatch.setattr(atomic, "SECONDS_TO_LOCK", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write_text(tmp_path / "mine", "written")
    finally:
        os.close(descriptor)
    assert (tmp_path / "mine").read_text() == "written"


def test_a_network_disk_may_sync_no_folders_but_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"kinds": {stat.S_IFDIR}}

    def fsync(descriptor: int) -> None:
        if stat.S_IFMT(os.fstat(descriptor).st_mode) in refused["kinds"]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file.txt", "text")
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "file").touch()
    assert (tmp_path / "file.txt").read_text() == "text" and (tmp_path / "folder/file").is_file()
    refused["kinds"] = {stat.S_IFREG}
    with pytest.raises(OSError, match="Invalid argument"):
        write_text(tmp_path / "file.txt", "other")
    assert (tmp_path / "file.txt").read_text() == "text"


def test_sha256(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_other_threads_keep_their_umask(tmp_path: Path) -> None:
    """What another thread creates meanwhile must not be writable by everybody."""
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            write_text(tmp_path / "file", "")
            with atomic_folder(tmp_path / "folder"):
                pass

    before = os.umask(0o027)
    try:
        thread = threading.Thread(target=write)
        thread.start()
        deadline, modes = time.monotonic() + 3, set()
        for number in itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count()):
            path = tmp_path / f"other-{number % 10}"
            path.unlink(missing_ok=True)
            path.touch()
            modes.add(oct(path.stat().st_mode & 0o777))
    finally:
        is_over.set()
        thread.join()
        os.umask(before)
    assert modes == {"0o640"}
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_two_writers_of_one_file_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_file(path) as first:
        first.write_text("first")
        with atomic_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_folder_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as first:
        write_text(first / "first", "")
        with atomic_folder(path) as second:
            (second / "second").touch()
        assert [file.name for file in path.iterdir()] == ["second"]
    assert [file.name for file in path.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once(tmp_path: Path) -> None:
    """Whatever comes last stays, whole."""
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(30):
                write_text(tmp_path / "file", str(number) * 1000)
                with atomic_folder(tmp_path / "folder") as folder:
                    (folder / "a").write_text(str(number))
                    (folder / "b").write_text(str(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    assert len(text := (tmp_path / "file").read_text()) == 1000 and len(set(text)) == 1
    assert (tmp_path / "folder/a").read_text() == (tmp_path / "folder/b").read_text()


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib, signal\n"
        "from charlstm.files.atomic import atomic_file, atomic_folder\n"
        "with atomic_file(pathlib.Path('file')), atomic_folder(pathlib.Path('folder')):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.glob(".*.????????.*"))) == 3
    write_text(tmp_path / "file", "")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_a_killed_writer_had_moved_away_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".folder.0123abcd.old").mkdir()
    (tmp_path / ".folder.0123abcd.old/kept").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder"):
        raise RuntimeError
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["folder", "folder/kept"]


def test_names_that_only_look_like_leftovers_stay(tmp_path: Path) -> None:
    names = [".file.tmp", ".file.mine.tmp", ".file.v2.0123abcd.tmp", ".file.v2.0123abcd.old", ".file.lock"]
    for name in names:
        (tmp_path / name).touch()
    write_text(tmp_path / "file", "")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "file"])


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name, kind in (("pipe", "FIFO"), ("zeros", "device")):
        for read in (open_regular, sha256):
            with pytest.raises(SpecialFileError, match=f"expected a file, found a {kind}: '{tmp_path / name}'"):
                read(tmp_path / name)
