import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from charlstm.storage.files import atomic_file, atomic_folder, sha256, write_text


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
