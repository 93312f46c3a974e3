"""The files of a source, in whatever encoding, as the one UTF-8 text that is the corpus, in pieces."""

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.encodings import read_as
from charlstm.errors import CorpusError
from charlstm.files.atomic import open_regular, read_pieces

TEXT_SUFFIXES = (".txt", ".text", ".md")


def local_path(source: str) -> Path | None:
    """The path that `source` is; None where it is a URL."""
    return None if "://" in source else Path(os.path.expanduser(source))  # noqa: PTH111  # `~` may be nobody


def each_once(files: Iterable[Path]) -> list[Path]:
    """Without further links to one file: a text that is there twice would be held out and trained on."""
    by_target: dict[Path, Path] = {}
    for file in files:
        by_target.setdefault(file.resolve(), file)
    return list(by_target.values())


def files_of(path: Path) -> list[Path]:
    """The file itself; or the texts (.txt, .text, .md) in a folder and below, in the order of their names.

    Hidden files and folders are left out, and so are links to folders and further links to one file.

    Raises:
        OSError: missing, unreadable, or neither a file nor a folder.
        ValueError: a folder without texts.
    """
    if not path.is_dir():
        open_regular(path).close()
        return [path]
    names = {file: file.relative_to(path).parts for file in path.rglob("*")}
    files = [file for file, parts in names.items() if not any(part.startswith(".") for part in parts)]
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES and file.is_file()]
    if not texts:
        raise ValueError(f"expected texts (*{', *'.join(TEXT_SUFFIXES)}), found a folder without any")
    return each_once(sorted(texts, key=names.__getitem__))


def check_outside(path: Path, output: Path) -> None:
    """CorpusError if a source is in what the project writes or in a folder around it, also by links."""
    source, written = (Path(os.path.realpath(each)) for each in (path, output))
    if source.is_relative_to(written) or written.is_relative_to(source):
        expected = f"a text outside of {output}, which the project writes, and no folder that has it"
        raise CorpusError(f"{path}: expected {expected}: move the text elsewhere and name that place")


class Form(NamedTuple):
    """How the text lies in the source, and what becomes of its line ends."""

    encoding: str = "utf-8"  # as `check_encoding` gives it
    newlines: str = "keep"  # or lf: CR LF becomes LF
    separator: str = "\n"  # between files


def source_sha256(files: Sequence[Path], separator: str) -> str:
    """The SHA-256 of a source's bytes, whatever they are: the files with the separator in UTF-8 between them."""
    found = sha256()
    for index, file in enumerate(files):
        found.update(separator.encode() if index else b"")
        for piece in read_pieces(file):
            found.update(piece)
    return found.hexdigest()


def corpus_pieces(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """The corpus in pieces of UTF-8; CorpusError if a file is not in the encoding, or if there is no text."""
    is_empty, rest = True, ""  # a CR whose LF may be in the next piece
    for index, file in enumerate(files):
        for piece in chain([form.separator if index else ""], read_as(file, form.encoding)):
            is_empty = is_empty and not piece
            text = rest + piece
            if form.newlines == "lf":
                rest = "\r" if text.endswith("\r") else ""
                text = text.removesuffix(rest).replace("\r\n", "\n")
            yield text.encode()
    yield rest.encode()
    if is_empty:
        raise CorpusError(f"{files[0]}: expected a text, found no character in {form.encoding}")
