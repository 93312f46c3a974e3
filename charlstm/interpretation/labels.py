"""Labels of each character that are computed from the text alone, e.g. "inside quotes".

A label describes the text up to and including its character. Only the two labels of speaker lines
look ahead, to the end of the line, because a reader recognizes a speaker line by its first letters.
No language is assumed: words are letters, marks and digits of any script, and sentences end with
the punctuation of several languages.

Shapes: N characters.
"""

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids, Vocab

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Finder = Callable[
    [Callable[[str], bool]], Flags
]  # takes a property and flags the characters that have the property
STOPS = (
    ".!?\N{HORIZONTAL ELLIPSIS}\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}"
    "\N{FULLWIDTH QUESTION MARK}\N{DEVANAGARI DANDA}\N{ARABIC QUESTION MARK}\N{ARABIC FULL STOP}"
)


class Label(NamedTuple):
    """A label for a text: name, meaning, and one boolean or number per character (N)."""

    name: str
    meaning: str
    values_N: Flags | Numbers

    @property
    def is_yes_or_no(self) -> bool:
        """True if the values are booleans."""
        return self.values_N.dtype == np.bool_


def labels_of(ids_N: Ids, vocab: Vocab) -> list[Label]:
    """Return all labels of a text with LF line endings, even those that never vary."""

    def at(is_so: Callable[[str], bool]) -> Flags:
        return np.array([is_so(one) for one in vocab.characters], bool)[ids_N]

    is_newline = at(lambda one: one == "\n")
    is_blank_line = is_newline & _before(is_newline)
    line_position = _since(is_newline)
    is_speaker_line = _on_lines_that_end_with(at(lambda one: one == ":"), is_newline)
    name_position = np.where(is_speaker_line, line_position, 0)
    since_blank_line = _count_since(is_newline, is_blank_line)

    is_word = at(lambda one: one == "_" or unicodedata.category(one)[0] in "LMN")
    word_length = np.where(is_word, _since(~is_word), 0)
    is_upper = at(str.isupper)
    is_capitals = (word_length >= 2) & (_since(~is_upper) >= word_length)
    is_stop = at(lambda one: one in STOPS)

    # A blank line ends all quotes, so that a missing quotation mark affects one paragraph only.
    is_in_straight = _count_since(at(lambda one: one == '"'), is_blank_line) % 2 == 1
    is_in_quotes = is_in_straight | _inside(at, "Pi", "Pf", is_blank_line)
    is_in_brackets = _inside(at, "Ps", "Pe", is_blank_line)
    return [
        Label("inside quotes", "within quotation marks", is_in_quotes),
        Label("inside brackets", "within (, [ or {", is_in_brackets),
        Label("line position", "characters since the line began", line_position),
        Label("lines since a blank line", "counted from 0", since_blank_line),
        Label("speaker line", "on a line that ends with a colon", is_speaker_line),
        Label(
            "position in the name",
            "characters since such a line began, 0 on others",
            name_position,
        ),
        Label("capital", "an upper-case letter", is_upper),
        Label("capitals so far", "in a word all of capitals so far", is_capitals),
        Label("word start", "the first character of a word", is_word & ~_before(is_word)),
        Label("word length", "characters of the word so far, 0 between words", word_length),
        Label("letter", "a letter of any script", at(str.isalpha)),
        Label("digit", "a decimal digit", at(str.isdecimal)),
        Label(
            "indentation", "blanks that the line began with so far", _indentation(at, is_newline)
        ),
        Label("sentence end", "a full stop, or another mark that ends a sentence", is_stop),
        Label("sentence position", "characters since a sentence ended", _since(is_stop)),
    ]


def _before(flags_N: Flags) -> Flags:
    """Return, for each character, the previous character's flag (False for the first)."""
    return np.concatenate(([False], flags_N[:-1]))


def _since(starts_N: Flags) -> Numbers:
    """Count characters from 0 at each start. Before the first start, count from 1."""
    return _reset(np.arange(1, len(starts_N) + 1), starts_N)


def _count_since(counted_N: Flags, starts_N: Flags) -> Numbers:
    """Count the true flags after the last start. The flag of the start itself is not counted."""
    return _reset(np.cumsum(counted_N), starts_N)


def _reset(sums_N: Numbers, starts_N: Flags) -> Numbers:
    """Reset the running sums to 0 at each start."""
    positions_N = np.arange(len(starts_N))
    last_N = np.maximum.accumulate(np.where(starts_N, positions_N, -1))
    return sums_N - np.where(last_N >= 0, sums_N[last_N], 0)


def _inside(at: Finder, opening: str, closing: str, starts_N: Flags) -> Flags:
    """Flag characters inside brackets or quotes of the Unicode categories `opening` and `closing`.

    A start closes all open marks. A closing mark without an opening mark is ignored. Single quotes
    are ignored, because the right single quote is usually an apostrophe.
    """
    single = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
    opened = at(lambda one: unicodedata.category(one) == opening and one not in single)
    closed = at(lambda one: unicodedata.category(one) == closing and one not in single)
    # Each start lowers the base level below all earlier depths, to restart the running minimum.
    grounds_N = np.cumsum(starts_N) * -(len(starts_N) + 1)
    depths_N = _reset(np.cumsum(opened.astype(np.int64) - closed), starts_N) + grounds_N
    is_inside: Flags = depths_N > np.minimum.accumulate(np.minimum(depths_N, grounds_N))
    return is_inside


def _on_lines_that_end_with(is_end: Flags, is_newline: Flags) -> Flags:
    """Mark each line, without its newline, if the line's last character has the flag."""
    line_N: Numbers = np.cumsum(is_newline) - is_newline
    ends_so = np.zeros(int(line_N[-1]) + 2, bool)
    ends_so[line_N[is_newline]] = _before(is_end)[is_newline]
    return ends_so[line_N] & ~is_newline


def _indentation(at: Finder, is_newline: Flags) -> Numbers:
    """For each character, count the leading spaces and tabs of its line up to that character."""
    is_blank = at(lambda one: one in " \t")
    is_leading = is_blank & (_count_since(~is_blank & ~is_newline, is_newline) == 0)
    return _count_since(is_leading, is_newline)
