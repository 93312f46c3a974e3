"""The hash of a large file is remembered as long as the file is the same, and never longer."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from charlstm.errors import ChecksumError
from charlstm.files.checksums import verify, write_sums
from pipeline.provenance import hashes
from pipeline.provenance.hashes import md5, memory, remember, sha256

WRONG = "f" * 64


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large."""
    monkeypatch.setattr(hashes, "MIN_BYTES", 1000)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "large.npy"
    path.write_bytes(b"x" * 1000)
    return path


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plant(path: Path) -> None:
    """A wrong hash for the file as it is: whoever reads the file finds another."""
    remember(path, WRONG)


def later() -> None:
    """Times of files advance with the kernel's clock, a few milliseconds at a time."""
    time.sleep(0.03)


def test_a_large_file_is_read_once(file: Path) -> None:
    assert sha256(file) == digest_of(file)
    assert md5(file) == hashlib.md5(file.read_bytes()).hexdigest()
    plant(file)
    assert sha256(file) == WRONG and sha256(Path(file.name)) == WRONG
    assert md5(file) == hashlib.md5(file.read_bytes()).hexdigest()  # what else is known of it stays
    shutil.rmtree(memory())
    assert sha256(file) == digest_of(file)


def test_a_small_file_is_always_read(file: Path) -> None:
    file.write_bytes(b"x" * 999)
    assert sha256(file) == digest_of(file)
    plant(file)
    assert sha256(file) == digest_of(file) and not memory().exists()


def test_any_change_of_the_file_is_noticed(file: Path) -> None:
    def size() -> None:
        file.write_bytes(b"x" * 1001)

    def byte_in_place() -> None:
        with file.open("r+b") as opened:
            opened.write(b"y")

    def byte_with_the_old_time() -> None:
        before = file.stat()
        byte_in_place()
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size

    def another_file() -> None:
        file.with_name("new").write_bytes(b"z" * 1000)
        file.with_name("new").replace(file)

    for change in (size, byte_in_place, byte_with_the_old_time, another_file):
        plant(file)
        assert sha256(file) == WRONG
        later()
        change()
        assert sha256(file) == digest_of(file), change.__name__


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"F" * 64, b"f" * 63])
def test_what_is_no_hash_is_not_believed(file: Path, content: bytes) -> None:
    plant(file)
    (entry,) = memory().iterdir()
    entry.write_bytes(content)
    assert sha256(file) == digest_of(file)


def test_a_memory_that_cannot_be_written_costs_time_alone(file: Path) -> None:
    memory().parent.mkdir()
    memory().touch()
    assert sha256(file) == digest_of(file) == sha256(file)


def test_checksums_are_compared_with_what_is_remembered(file: Path) -> None:
    sums = file.with_name("SUMS")
    write_sums(sums, [file.name])
    verify(sums, [file.name], sha256)
    plant(file)
    with pytest.raises(ChecksumError, match=f"found {WRONG}"):
        verify(sums, [file.name], sha256)
    verify(sums, [file.name])
