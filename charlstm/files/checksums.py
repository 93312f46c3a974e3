"""Checksum files in the format of `sha256sum`, with which a stage verifies its inputs."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from charlstm.errors import ChecksumError
from charlstm.files.atomic import write_bytes

SUMS = "SHA256SUMS"  # name of a folder's checksum file
# These errors are permanent: the file does not exist, so a retry cannot succeed.
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(file: Path) -> Path:
    """Return the path of the checksum file that belongs to a single file."""
    return file.with_name(f"{file.name}.sha256")


def write_sums(sums: Path, names: Iterable[str]) -> None:
    """Write the checksum file `sums` for the files `names` in the same folder."""
    write_digests(sums, {name: sha256(sums.parent / name) for name in names})


def write_digests(sums: Path, digests: Mapping[str, str]) -> None:
    """Write known SHA-256 digests, keyed by file name, to the checksum file `sums`."""
    write_bytes(sums, digest_lines(digests))


def digest_lines(digests: Mapping[str, str]) -> bytes:
    """Format SHA-256 digests, keyed by file name, as the content of a checksum file."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


def read_sums(sums: Path) -> dict[str, str]:
    """Read the checksum file `sums`. Return its SHA-256 digests, keyed by file name.

    Raises:
        ChecksumError: the checksum file is missing or damaged.
    """
    try:
        lines = [line.split("  ", 1) for line in sums.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in lines}
    except (*ABSENT, ValueError):
        expected = "expected a SHA-256, two spaces and a file name in each line"
        raise ChecksumError(
            f"{sums}: the checksums are missing or damaged: {expected}; `dvc repro` rewrites them"
        ) from None


def verify(sums: Path, names: Iterable[str]) -> None:
    """Raise ChecksumError if one of the files `names` does not match its checksum in `sums`.

    A missing file is skipped, because the function that reads the file reports the error.
    """
    expected = read_sums(sums)
    for name in names:
        file = sums.parent / name
        if file.is_file() and (found := sha256(file)) != expected.get(name):
            raise ChecksumError(
                f"{file} is damaged or comes from another run: {sums.name} expects SHA-256 "
                f"{expected.get(name)}, found {found}; `dvc repro` rewrites the file"
            )
