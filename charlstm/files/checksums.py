"""Checksums beside the data, in the format of `sha256sum`: what a stage wrote is what the next one reads.

A file that was cut, flipped a bit on its way to another machine, or belongs to another run is refused before it can
make a wrong number.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from charlstm.errors import ChecksumError
from charlstm.files.atomic import sha256, write_text

SUMS = "SHA256SUMS"  # the checksums of a folder
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # no other time will find a file


def sums_of(file: Path) -> Path:
    """The checksum file of a single file."""
    return file.with_name(f"{file.name}.sha256")


def write_sums(sums: Path, names: Iterable[str]) -> None:
    """Write the checksums of files beside `sums`; `sha256sum --check` reads them too."""
    write_digests(sums, {name: sha256(sums.parent / name) for name in names})


def write_digests(sums: Path, digests: Mapping[str, str]) -> None:
    """Write known SHA-256 digests of files, by name, as `sha256sum --check` reads them."""
    write_text(sums, "".join(f"{digest}  {name}\n" for name, digest in digests.items()))


def read_sums(sums: Path) -> dict[str, str]:
    """The SHA-256 of each file that `sums` names.

    Raises:
        ChecksumError: `sums` is missing or damaged.
        OSError: it cannot be read now: the disk fails, or there is no permission.
    """
    try:
        with sums.open(encoding="utf-8") as file:
            lines = [line.split("  ", 1) for line in file.read().splitlines()]
        return {name: digest for digest, name in lines}
    except ABSENT as error:
        raise ChecksumError(
            f"{sums}: cannot read the checksums: {error.strerror}; `dvc repro` writes them with the data"
        ) from None
    except ValueError:
        raise ChecksumError(f"{sums}: expected a SHA-256, two spaces and a name in each line: it is damaged") from None


def verify(sums: Path, names: Iterable[str]) -> None:
    """Compare files beside `sums` with it. A file that cannot be read is left to its reader's own message.

    Raises:
        ChecksumError: `sums` is missing or damaged, or a file is not the one that it names.
    """
    expected = read_sums(sums)
    for name in names:
        try:
            found = sha256(sums.parent / name)
        except OSError:
            continue
        if name not in expected:
            raise ChecksumError(
                f"{sums}: expected a line with the SHA-256 of {name}, found none: it is damaged, or of another run; "
                f"`dvc repro` writes both"
            )
        if found != expected[name]:
            raise ChecksumError(
                f"{sums.parent / name}: damaged, or of another run: {sums.name} expects SHA-256 {expected[name]}, "
                f"found {found}; `dvc repro` rewrites it"
            )
