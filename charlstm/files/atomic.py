"""Files that are whole or absent: written under a temporary name, synced, then renamed; read in pieces; checksums.

What a killed process left under a temporary name is removed when the same file is written a day later.
"""

import glob
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from charlstm.errors import ChecksumError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`; on success it becomes `path`, on failure it is removed."""
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:  # of a full disk, it lacks the name of what did not fit
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`; on success it takes the place of `path`, on failure it is removed."""
    temporary, old = _temporary(path), _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            _sync(file)
        with suppress(FileNotFoundError):
            path.rename(old)
        temporary.replace(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with newlines as they are, whole or not at all."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(path: Path, seconds_kept: float = 0.0) -> None:
    """Remove what writers of `path` left when they were killed; what is younger may be in use."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime >= seconds_kept:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path, 24 * 3600)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # of which a network disk syncs none
            raise
    finally:
        os.close(descriptor)


# Read and written in pieces, so that a file's size does not matter.

PIECE_BYTES = 1 << 20
Advance = Callable[[int], object]  # told of each number of bytes that is done
Check = Callable[[str], object]  # called with the SHA-256 of a file before it takes its place


def read_pieces(path: Path, start: int = 0, end: int | None = None, advance: Advance | None = None) -> Iterator[bytes]:
    """The bytes of a file from `start` to before `end`, in order; cuts fall anywhere."""
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(PIECE_BYTES if end is None else min(PIECE_BYTES, max(0, end - start))):
            start += len(piece)
            yield piece
            if advance:
                advance(len(piece))


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], check: Check | None = None) -> str:
    """Write a file, whole or not at all; its SHA-256. What `check` or `pieces` raises leaves nothing behind."""
    found = hashlib.sha256()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
        if check:
            check(found.hexdigest())
        return found.hexdigest()


def find(path: Path, sought: bytes, start: int = 0) -> int:
    """The first place from `start` on where `sought` begins, in bytes from the beginning; -1 if there is none."""
    before = b""  # the end of the piece before, one byte too short to hold all of `sought`
    for piece in read_pieces(path, start):
        content = before + piece
        if (place := content.find(sought)) >= 0:
            return start - len(before) + place
        start += len(piece)
        before = content[max(0, len(content) - len(sought) + 1) :]
    return -1


# Checksums next to the data, in the format of `sha256sum`: what a stage wrote is what the next one reads.

SUMS = "SHA256SUMS"  # the checksums of a folder
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # no other time will find a file


def sums_of(file: Path) -> Path:
    """The checksum file of a single file."""
    return file.with_name(f"{file.name}.sha256")


def write_sums(sums: Path, names: Iterable[str]) -> None:
    """Write the checksums of files next to `sums`."""
    write_digests(sums, {name: sha256(sums.parent / name) for name in names})


def write_digests(sums: Path, digests: Mapping[str, str]) -> None:
    """Write known SHA-256 digests of files, by name."""
    write_bytes(sums, digest_lines(digests))


def digest_lines(digests: Mapping[str, str]) -> bytes:
    """Return the lines of a checksum file, in the format of `sha256sum`."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


def read_sums(sums: Path) -> dict[str, str]:
    """The SHA-256 of each file that `sums` names; a ChecksumError if `sums` is missing or damaged."""
    try:
        lines = [line.split("  ", 1) for line in sums.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in lines}
    except (*ABSENT, ValueError) as error:
        reason = getattr(error, "strerror", None) or "expected a SHA-256, two spaces and a name in each line"
        raise ChecksumError(f"{sums}: cannot read the checksums: {reason}; `dvc repro` writes them anew") from None


def verify(sums: Path, names: Iterable[str]) -> None:
    """Compare files with `sums`; a ChecksumError if one differs. Its reader says that one is missing."""
    expected = read_sums(sums)
    for name in names:
        file = sums.parent / name
        if file.is_file() and (found := sha256(file)) != expected.get(name):
            raise ChecksumError(
                f"{file}: damaged, or of another run: {sums.name} expects SHA-256 {expected.get(name)}, found {found}; "
                f"`dvc repro` rewrites it"
            )
