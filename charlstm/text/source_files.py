"""Which files of this machine a source names: one, or those of a folder."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote

from charlstm.storage.files import SPECIAL_FILES

TEXT_SUFFIXES = (".txt", ".text", ".md")
NUM_LOOKED_AT = 8_000  # bytes: a zero among them means that it is no text, as git has it


def local_path(source: str) -> Path | None:
    """The path that `source` is, or names as a `file://` URL (RFC 8089); None where it is the URL of a server."""
    scheme, mark, rest = source.partition("://")
    if not mark:
        return _without_tilde(source)
    if scheme.lower() != "file":
        return None
    return _without_tilde(unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))


def files_of(path: Path) -> list[Path]:
    """The file itself; or the texts in a folder and in the folders below, in the order of their names.

    A folder's texts are its files in .txt, .text and .md; if it has none of them, all that hold no zero byte at
    their beginning. Hidden files and folders are left out.

    Raises:
        OSError: missing or unreadable.
        ValueError: neither a file nor a folder, or a folder without texts.
    """
    if path.is_dir():
        return _texts_in(path)
    # Look before opening: that waits for ever on a FIFO that nobody writes to.
    if kind := SPECIAL_FILES.get(stat.filemode(path.stat().st_mode)[0]):
        raise ValueError(f"expected a file or a folder, found a {kind}; copy what it gives into a file")
    path.open("rb").close()
    return [path]


def _texts_in(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    files = sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(folder).parts)
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    texts = texts or [file for file in files if b"\0" not in _beginning(file)]
    if not texts:
        raise ValueError(f"expected texts (*{', *'.join(TEXT_SUFFIXES)}), found a folder without any")
    return texts


def _raise(error: OSError) -> None:
    raise error


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(NUM_LOOKED_AT)


def _without_tilde(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: it is a name like any other
        return Path(name)
