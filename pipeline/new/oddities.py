"""What a text is, in a few lines for whoever is to train on it: sizes, alphabet, and what is odd about it."""

import unicodedata
from collections import Counter
from collections.abc import Iterator

from charlstm.text.inspection import Findings
from charlstm.text.vocabulary import UNSEEN
from pipeline.new.looking import PREVIEW_CHARS, Look

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
    return [*_line_ends(look), *_characters(look.findings), *_lines(look.findings)]


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


def _characters(found: Findings) -> Iterator[str]:
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
