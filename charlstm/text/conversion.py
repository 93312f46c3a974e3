"""Converts the files of a source, in whatever encoding, to the one UTF-8 text that is the corpus, in pieces."""

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.atomic import open_regular
from charlstm.files.pieces import Check, read_pieces, write_pieces
from charlstm.text.corpus import BadByteError, TextReader
from charlstm.text.encodings import explain

# Which files of this machine a source names: one, or those of a folder.

TEXT_SUFFIXES = (".txt", ".text", ".md")
BYTES_OF_A_TEXT = 8_000  # bytes: a zero among them means that it is no text, as git has it


def local_path(source: str) -> Path | None:
    """The path that `source` is; None where it is a URL."""
    if "://" in source:
        return None
    try:
        return Path(source).expanduser()
    except RuntimeError:  # no such user: it is a name like any other
        return Path(source)


def each_once(files: Iterable[Path]) -> list[Path]:
    """Without further links to one file: a text that is there twice would be held out and trained on."""
    by_target: dict[Path, Path] = {}
    for file in files:
        by_target.setdefault(file.resolve(), file)
    return list(by_target.values())


def files_of(path: Path) -> list[Path]:
    """The file itself; or the texts in a folder and in the folders below, in the order of their names.

    A folder's texts are its files in .txt, .text and .md; if it has none of them, all that hold no zero byte at
    their beginning. Hidden files and folders are left out, and so are links to folders and further links to one file.

    Raises:
        OSError: missing, unreadable, or neither a file nor a folder.
        ValueError: a folder without texts.
    """
    if not path.is_dir():
        open_regular(path).close()
        return [path]

    def fail(error: OSError) -> None:
        raise error

    found = list[Path]()
    for parent, folders, names in os.walk(path, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    files = each_once(sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(path).parts))
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    texts = texts or [file for file in files if b"\0" not in next(read_pieces(file, 0, BYTES_OF_A_TEXT), b"")]
    if not texts:
        raise ValueError(f"expected texts (*{', *'.join(TEXT_SUFFIXES)}), found a folder without any")
    return texts


def check_outside(path: Path, output: Path) -> None:
    """Check that a source is neither in what the project writes nor a folder around it, also by links.

    Raises:
        CorpusError: the source would be overwritten, or would include what a stage wrote.
    """
    resolved, resolved_output = (Path(os.path.realpath(each)) for each in (path, output))  # of a loop, too
    for source, written in ((path.absolute(), output.absolute()), (resolved, resolved_output)):
        if source.is_relative_to(written) or written.is_relative_to(source):
            raise CorpusError(
                f"{path}: expected a text outside of {output}, which the project writes, and no folder that has it: "
                f"move the text elsewhere and name that place"
            )


# The files of a source as one UTF-8 text.


class Form(NamedTuple):
    """How the text lies in the source, and what becomes of its line ends."""

    encoding: str = "utf-8"  # as `check_encoding` gives it
    newlines: str = "keep"  # or lf: CR LF becomes LF
    separator: str = "\n"  # between files

    @property
    def keeps_bytes(self) -> bool:
        """Whether the corpus has the very bytes of the source."""
        return self.encoding == "utf-8" and self.newlines == "keep"


def write_corpus(target: Path, files: Sequence[Path], form: Form, check: Check | None = None) -> None:
    """Write the corpus whole or not at all; `check` is called with its SHA-256 before it takes its place.

    Raises:
        CorpusError: a file is not in the encoding, or there is no text in it.
    """
    write_pieces(target, corpus_pieces(files, form), check)


def source_sha256(files: Sequence[Path], separator: str) -> str:
    """The SHA-256 of a source's bytes, whatever they are: the files with the separator in UTF-8 between them."""
    found = sha256()
    for index, file in enumerate(files):
        found.update(separator.encode() if index else b"")
        for piece in read_pieces(file):
            found.update(piece)
    return found.hexdigest()


def corpus_pieces(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """The UTF-8 text that is the corpus, in pieces of whole characters."""
    is_empty, rest = True, b""  # a CR whose LF may be in the next piece
    for piece in _joined(files, form):
        is_empty = is_empty and not piece
        if form.newlines == "lf":
            content = rest + piece
            rest = content[-1:] if content.endswith(b"\r") else b""
            yield content[: len(content) - len(rest)].replace(b"\r\n", b"\n")
        else:
            yield piece
    yield rest
    if is_empty:
        raise CorpusError(f"{files[0]}: expected a text, found no character in {form.encoding}")


def _joined(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """The files as UTF-8."""
    for index, file in enumerate(files):
        yield form.separator.encode() if index else b""
        reader = TextReader(form.encoding)
        try:
            for piece in read_pieces(file):
                yield reader.read(piece).encode()
            yield reader.read(b"", is_end=True).encode()
        except BadByteError as error:
            raise CorpusError(explain(error, file)) from None
        except UnicodeError as error:  # UTF-16 without its mark, or surrogates, which no UTF-8 has
            advice = "; if it has no byte order mark, name utf-16-le or utf-16-be" if "BOM" in str(error) else ""
            raise CorpusError(f"{file}: expected {form.encoding}, found something else: {error}{advice}") from None
