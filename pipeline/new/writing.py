"""All files of a new corpus, or none."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from charlstm.storage.files import atomic_file, atomic_folder


def write_all(files: Mapping[Path, str], links: Path | None = None, targets: Sequence[Path] = ()) -> None:
    """Write `files`, and `links`, a folder of links to `targets` in their order. What fails leaves all as it was.

    Everything is on the disk under temporary names before the first file is replaced. So a full disk replaces none.

    Raises:
        OSError: as the operating system has it.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(None, "expected a file, found a folder", str(path))
    with ExitStack() as stack:
        if links:
            folder = stack.enter_context(atomic_folder(links))
            for number, target in enumerate(targets, 1):
                (folder / link_name(number, target)).symlink_to(target)
        # What is entered last is replaced first: the last file, `params.yaml`, names what the others have.
        for path, text in reversed(list(files.items())):
            with stack.enter_context(atomic_file(path)).open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())


def link_name(number: int, target: Path) -> str:
    """A name that sorts by `number`, from 1, and that a parameter can hold."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in target.name)
    return f"{number:05}-{plain[-100:]}"
