"""Checksums next to the data, in the format of `sha256sum`: what a stage wrote is what the next stage reads."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from charlstm.errors import ChecksumError
from charlstm.files.atomic import write_bytes


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SUMS = "SHA256SUMS"  # the checksums of a folder
ABSENT = (
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
)  # no other time will find a file


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
        reason = (
            getattr(error, "strerror", None)
            or "expected a SHA-256, two spaces and a name in each line"
        )
        raise ChecksumError(
            f"{sums}: cannot read the checksums: {reason}; `dvc repro` writes them anew"
        ) from None


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
