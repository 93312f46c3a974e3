"""What TEXT names, read once as a whole: its encoding, what it is made of, and what is odd about it."""

import codecs
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import charset_normalizer

from charlstm.errors import CorpusError, DownloadError
from charlstm.files.pieces import Advance, read_pieces
from charlstm.files.urls import without_credentials
from charlstm.text.conversion import MARKS, SAMPLE_BYTES, check_encoding, explain
from charlstm.text.corpus import BadByteError, Characters, Utf8Reader
from charlstm.text.download import files_of, local_path
from charlstm.text.inspection import Findings, Inspection
from charlstm.text.vocabulary import UNSEEN
from pipeline.stage.terminal import progress

# What TEXT names: a file, several, a folder, or a URL; and what the parameters are to name.

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


BOM = "\N{BYTE ORDER MARK}"
PREVIEW_CHARS = 60
# In charset-normalizer's measures from 0 to 1: `chaos`, a mess, and `coherence`, letters as often as in a language.
MAX_CHAOS = 0.05
LESS_CHAOS, MORE_COHERENCE = 0.05, 0.08  # than any other reading, for a guess to be taken
MANY_NULS = 0.2  # of the bytes: UTF-16 or UTF-32, if it is a text


class Look(NamedTuple):
    """What the files are: one encoding for all of them, and what their characters are."""

    encoding: str  # as Python names it
    is_guessed: bool
    findings: Findings  # with LF for each CR LF, as the corpus will have it
    preview: str  # of the beginning, on one line


def look_at(files: Sequence[Path], separator: str, encoding: str | None = None) -> Look:
    """Read the files, as they will be when `separator` joins them, in `encoding`, or in one that they must be in.

    Raises:
        CorpusError: a file is no text in an encoding that is known for sure, or files differ in it, or all are empty.
        OSError: a file cannot be read.
    """
    name, is_guessed = (check_encoding(encoding), False) if encoding else _encoding_of_all(files)
    inspection, preview = Inspection(), ""
    with progress("look", sum(file.stat().st_size for file in files)) as advance:
        for number, file in enumerate(files):
            if number:
                inspection.add(separator)
            for piece in _characters(file, name, advance):
                inspection.add(piece)
                if len(preview) < PREVIEW_CHARS:
                    preview += piece[: 8 * PREVIEW_CHARS].decode() if isinstance(piece, bytes) else piece
    findings = inspection.findings().with_line_feeds()
    if findings.num_chars == 0:
        raise CorpusError(f"{files[0]}: expected a text, found an empty file")
    return Look(name, is_guessed, findings, " ".join(preview[: 8 * PREVIEW_CHARS].split()))


def _encoding_of_all(files: Sequence[Path]) -> tuple[str, bool]:
    found = {file: _encoding_of(file) for file in files if file.stat().st_size}
    names = {name for name, _ in found.values()}
    if names <= {"utf-8", "utf-8-sig"}:  # which also reads what has no mark
        return ("utf-8-sig" if "utf-8-sig" in names else "utf-8"), False
    if len(names) > 1:
        examples = ", ".join(
            f"{next(str(file) for file, one in found.items() if one[0] == name)}: {name}" for name in sorted(names)
        )
        raise CorpusError(f"expected files in one encoding, found several ({examples}): convert them first")
    return next(iter(found.values()))


def _encoding_of(file: Path) -> tuple[str, bool]:
    """Its encoding, and whether that is a guess."""
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name, False
    if head.count(0) >= MANY_NULS * len(head) and (wide := _wide(head)):
        return wide, True
    try:
        reader = Utf8Reader()
        for piece in read_pieces(file):
            reader.read(piece)
        reader.end()
    except BadByteError as error:
        return _confident(file, error), True
    return "utf-8", False


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, if the beginning reads like a text in it."""
    whole = head[: len(head) // 4 * 4]
    guesses = [match.encoding for match in charset_normalizer.from_bytes(whole, enable_fallback=False)]
    return next((name.replace("_", "-") for name in guesses if name.startswith(("utf_16", "utf_32"))), None)


def _confident(file: Path, error: BadByteError) -> str:
    """The encoding in which the bytes from the first bad one's line on are far more like a text than in any other.

    Raises:
        CorpusError: there is none; names the candidates.
    """
    start = max(0, error.offset - SAMPLE_BYTES // 2)
    around = b"".join(read_pieces(file, start, error.offset + SAMPLE_BYTES))
    sample = around[around.rfind(b"\n", 0, error.offset - start) + 1 :]
    for cut in range(4):  # the sample may end in the middle of a character
        if found := list(charset_normalizer.from_bytes(sample[: len(sample) - cut], enable_fallback=False)):
            best, *others = found
            if best.chaos <= MAX_CHAOS and all(_is_far(best, one) for one in others if str(one) != str(best)):
                return best.encoding
            break
    explained = explain(error, file)
    if "it may be" in explained:
        explained += "; `charlstm new` takes it as --encoding"
    raise CorpusError(explained)


def _is_far(best: charset_normalizer.CharsetMatch, other: charset_normalizer.CharsetMatch) -> bool:
    return other.chaos - best.chaos >= LESS_CHAOS or best.coherence - other.coherence >= MORE_COHERENCE


def _characters(file: Path, encoding: str, advance: Advance) -> Iterator[Characters]:
    if encoding in ("utf-8", "utf-8-sig"):
        yield from _utf8(file, advance)
        return
    decoder, num_bytes = codecs.getincrementaldecoder(encoding)(), 0
    try:
        for piece in read_pieces(file):
            yield decoder.decode(piece)
            num_bytes += len(piece)
            advance(len(piece))
        yield decoder.decode(b"", final=True)
    except UnicodeError:
        raise CorpusError(
            f"{file}: some of it reads like {encoding}, but not what is near byte {num_bytes}: it is damaged, "
            f"or two encodings are mixed, or it is no text; convert it to UTF-8 first"
        ) from None


def _utf8(file: Path, advance: Advance) -> Iterator[Characters]:
    reader, is_first = Utf8Reader(), True
    try:
        for piece in read_pieces(file):
            read = reader.read(piece)
            yield read.removeprefix(BOM) if is_first and isinstance(read, str) else read
            is_first = False
            advance(len(piece))
        reader.end()
    except BadByteError as error:
        raise CorpusError(explain(error, file)) from None


# What a text is, in a few lines for whoever is to train on it: sizes, alphabet, and what is odd about it.

NUM_SCRIPTS = 5
MIN_SHARE = 0.005  # of all characters: a script with less is not named
REPEATED_SHARE = 0.01
RARE = 10  # times: a character that is rarer is hardly learned
NUM_RARE = 100
ORDINARY = "\t\n\r"
LONG_LINE = 10_000  # characters


def summary(look: Look) -> list[str]:
    """Sizes, encoding and alphabet."""
    found = look.findings
    lines = "1 line" if found.num_lines == 1 else f"{found.num_lines:,} lines"
    guessed = f" (a guess; it begins: {look.preview[:PREVIEW_CHARS]!r})" if look.is_guessed else ""
    scripts = [(name, share) for name, share in found.scripts() if share >= MIN_SHARE][:NUM_SCRIPTS]
    return [
        f"{found.num_chars:,} characters in {lines}, the longest has {found.longest_line:,}; {look.encoding}{guessed}",
        f"{len(found.counts):,} distinct characters: " + ", ".join(f"{name} {share:.1%}" for name, share in scripts),
    ]


def oddities(look: Look) -> list[str]:
    """What is odd, a line each, with what is done about it or what to set."""
    return [*_line_ends(look), *_odd_characters(look.findings), *_lines(look.findings)]


def newlines_for(findings: Findings) -> str:
    """`download.newlines`."""
    return "lf" if findings.num_crlf else "keep"


def _line_ends(look: Look) -> Iterator[str]:
    found = look.findings
    if look.encoding == "utf-8-sig":
        yield "it begins with a byte order mark, which is left out (download.encoding: utf-8-sig)"
    if found.num_crlf:
        yield f"{found.num_crlf:,} line ends are CR LF, which become LF (download.newlines: lf)"
    if found.num_lone_cr:
        yield f"{found.num_lone_cr:,} CR without LF stay as they are; if they are line ends, convert the text first"


def _odd_characters(found: Findings) -> Iterator[str]:
    controls = Counter({one: count for one, count in found.of_category("Cc").items() if one not in ORDINARY})
    if controls:
        yield f"control characters: {_named(controls)}; they are learned like any other"
    if private := found.of_category("Co"):
        yield f"private-use characters, which mean nothing outside of a font: {_named(private)}; they are learned, too"
    if unassigned := found.of_category("Cn"):
        yield f"code points that are no characters: {_named(unassigned)}; they are learned, too"
    if count := found.counts[UNSEEN]:
        yield f"U+FFFD {count:,} times: the text was converted wrongly before; look for a better copy"
    rare = sum(count < RARE for count in found.counts.values())
    if rare >= NUM_RARE:
        yield f"{rare:,} characters are there fewer than {RARE} times (encode.min_count makes rare ones U+FFFD)"


def _lines(found: Findings) -> Iterator[str]:
    if found.num_lines == 1 and found.num_chars > LONG_LINE:
        yield "it is one line: prompts are beginnings of words"
    repeated = found.repeated
    if repeated and repeated.share >= REPEATED_SHARE:
        yield (
            f"repeated lines are {repeated.share:.1%} of the text, e.g. {_short(repeated.commonest)} "
            f"{repeated.num_times:,} times; if that is boilerplate, take it out first"
        )


def _named(characters: Counter[str]) -> str:
    named = [f"U+{ord(one):04X} {_name(one)}{count:,} times" for one, count in characters.most_common(3)]
    return ", ".join(named) + (f" and {len(characters) - 3:,} more" if len(characters) > 3 else "")


def _name(character: str) -> str:
    name = "NUL" if character == "\0" else unicodedata.name(character, "")
    return f"({name}) " if name else ""


def _short(line: str) -> str:
    return repr(line if len(line) <= PREVIEW_CHARS else line[:PREVIEW_CHARS] + "...")
