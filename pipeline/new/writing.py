"""All files of a new corpus, or none."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from charlstm.storage.files import atomic_folder, write_all_or_none


def write_all(files: Mapping[Path, str], links: Path | None = None, targets: Sequence[Path] = ()) -> None:
    """Write `files`, and `links`, a folder of links to `targets` in their order. What fails leaves all as it was.

    The last step, a rename by which the links take their place, undoes no file if it fails.

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
        write_all_or_none(files)


def link_name(number: int, target: Path) -> str:
    """A name that sorts by `number`, from 1, and that a parameter can hold."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in target.name)
    return f"{number:05}-{plain[-100:]}"
