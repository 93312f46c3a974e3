"""What TEXT names: a file, several, a folder, or a URL; and what the parameters are to name."""

import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import DownloadError
from charlstm.files.urls import without_credentials
from charlstm.text.download import files_of, local_path

MAX_NAME = 40  # characters
# Words that YAML does not read as texts.
YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}


class Source(NamedTuple):
    """A text as it was named, and the files that are to be looked at, in their order."""

    shown: str  # for messages
    stem: str  # what its name is made of
    files: list[Path]  # absolute; empty for a URL
    url: str | None
    folder: Path | None  # the one that was named

    @property
    def needs_links(self) -> bool:
        """Whether a folder of links must stand for it: several files; or a path that a parameter cannot hold."""
        return self.url is None and self.folder is None and (len(self.files) > 1 or not _is_plain(self.files[0]))


def find_source(texts: Sequence[str], own: Collection[Path]) -> Source:
    """The source that the arguments name. `own` are the project's folders that commands and stages write.

    Raises:
        DownloadError: it is no file, several URLs, or in one of `own`.
        OSError: missing, unreadable, or a loop of links.
    """
    paths = [local_path(text) for text in texts]
    if None in paths:
        return _url(texts)
    files: list[Path] = []
    for path in (path for path in paths if path is not None):
        found = _files_of(path.absolute())
        for file in (path.absolute(), *found):
            for folder in own:
                _check_outside(file, folder)
        files += found
    first = Path(os.path.abspath(paths[0] or ""))  # noqa: PTH100  # without `..`, and links as they are
    if len(texts) > 1:
        return Source(f"{len(files)} files", first.stem, files, None, None)
    if not first.is_dir():
        return Source(str(first), first.stem, files, None, None)
    if not _is_plain(first):
        raise DownloadError(
            f"{ascii(str(first))}: expected a folder whose name has only printable characters and none of $ {{ }} \\; "
            "rename it, or name its files"
        )
    return Source(str(first), first.name, files, None, first)


def name_of(stem: str) -> str:
    """A name for a corpus: ASCII letters, digits, `_` and `-`, that YAML and Hydra read as a text."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME].strip("-_")
    if not name:
        return "text"
    return name if name[0].isalpha() and name not in YAML_WORDS else f"text-{name}"


def _url(texts: Sequence[str]) -> Source:
    if len(texts) > 1:
        raise DownloadError(f"expected one URL, or files of this machine, got {len(texts)} arguments with a URL")
    stem = re.sub(r"[?#].*", "", texts[0]).rstrip("/").rpartition("/")[2]
    return Source(without_credentials(texts[0]), Path(stem).stem or "text", [], texts[0], None)


def _files_of(path: Path) -> list[Path]:
    try:
        return files_of(path)
    except ValueError as error:
        raise DownloadError(f"{path}: {error}") from None


def _check_outside(file: Path, own: Path) -> None:
    if file.is_relative_to(own.absolute()) or file.resolve().is_relative_to(own.resolve()):
        raise DownloadError(
            f"{file}: expected a text outside of {own}, which the project writes and would overwrite: "
            f"move it elsewhere and name that place"
        )
    if own.absolute().is_relative_to(file) or own.resolve().is_relative_to(file.resolve()):
        raise DownloadError(
            f"{file}: expected a folder of texts alone, found one that has {own}, which the project writes: "
            f"move the texts to a folder of their own and name that"
        )


def _is_plain(path: Path) -> bool:
    """Whether a parameter may hold the path: for Hydra and DVC, `${` is the beginning of a reference."""
    return str(path).isprintable() and not set("${}\\") & set(str(path))
