"""The hash of a large file is remembered as long as the file is the same, and never longer."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.projects import ROOT
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
    remember(path, sha256=WRONG)


def later() -> None:
    """Times of files advance with the kernel's clock, a few milliseconds at a time."""
    time.sleep(0.03)


def test_a_large_file_is_read_once(file: Path) -> None:
    assert sha256(file) == digest_of(file)
    assert md5(file) == hashlib.md5(file.read_bytes()).hexdigest()
    plant(file)
    assert sha256(file) == WRONG and sha256(Path(file.name)) == WRONG
    assert md5(file) == hashlib.md5(file.read_bytes()).hexdigest()  # what else is known of it stays
    memory().unlink()
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


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[]", b"{}", b'{"a": 1}', b"[" * 100_000, b'{"large.npy": {"sha256": 3}}']
)
def test_a_damaged_memory_counts_as_empty(file: Path, content: bytes) -> None:
    memory().parent.mkdir()
    memory().write_bytes(content)
    assert sha256(file) == digest_of(file)
    plant(file)
    assert sha256(file) == WRONG


def test_an_entry_that_is_none_is_not_believed(file: Path) -> None:
    sha256(file)
    document = json.loads(memory().read_text())
    (entry,) = document.values()
    for wrong in (None, 5, "abc", ["f" * 64], "F" * 64):
        memory().write_text(json.dumps(dict.fromkeys(document, entry | {"sha256": wrong})))
        assert sha256(file) == digest_of(file)


def test_a_memory_that_cannot_be_written_costs_time_alone(file: Path) -> None:
    memory().mkdir(parents=True)
    assert sha256(file) == digest_of(file) == sha256(file)


def test_files_that_are_gone_are_forgotten(file: Path) -> None:
    sha256(file)
    other = file.with_name("other.npy")
    file.rename(other)
    sha256(other)
    assert list(json.loads(memory().read_text())) == [str(other)]


def test_checksums_are_compared_with_what_is_remembered(file: Path) -> None:
    sums = file.with_name("SUMS")
    write_sums(sums, [file.name])
    verify(sums, [file.name], sha256)
    plant(file)
    with pytest.raises(ChecksumError, match=f"found {WRONG}"):
        verify(sums, [file.name], sha256)
    verify(sums, [file.name])


WORKER = """
import sys
from pathlib import Path
from pipeline.provenance import hashes
hashes.MIN_BYTES = 1
for number in range(150):
    path = Path(f"{sys.argv[1]}-{number % 10}")
    path.write_text(sys.argv[1] * (number + 1))
    assert hashes.sha256(path) == __import__("hashlib").sha256(path.read_bytes()).hexdigest()
"""


def test_processes_that_hash_at_once_do_not_trip_over_each_other(file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE) for name in "abc"]
    said = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    document = json.loads(memory().read_text())
    assert document and all(entry["sha256"] for entry in document.values())
