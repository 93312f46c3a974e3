"""What can be said of each character of a text from the text alone, e.g. that it stands inside quotes.

A label describes the text up to and with its character. Only the two labels of speaker lines look ahead, to the end of
the line: how a name begins tells a reader, too. No language is assumed: words are letters, marks and digits of any
script, and sentences end at the stops of several.
Shapes: N characters, V vocabulary.
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
Property = Callable[[Callable[[str], bool]], Flags]  # where a text has characters that are so
STOPS = ".!?\N{HORIZONTAL ELLIPSIS}\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
STOPS += "\N{DEVANAGARI DANDA}\N{ARABIC QUESTION MARK}\N{ARABIC FULL STOP}"


class Label(NamedTuple):
    """A name, what it says in a few words, and its value at every character (N): yes or no, or a number."""

    name: str
    meaning: str
    values_N: Flags | Numbers

    @property
    def is_yes_or_no(self) -> bool:
        """Whether the label has no more than two values."""
        return self.values_N.dtype == np.bool_


def labels_of(ids_N: Ids, vocab: Vocab) -> list[Label]:
    """All labels of a text whose lines end with LF, also those that never vary in it."""

    def at(is_so: Callable[[str], bool]) -> Flags:
        return np.array([is_so(one) for one in vocab.characters], bool)[ids_N]

    is_newline = at(lambda one: one == "\n")
    is_word = at(lambda one: one == "_" or unicodedata.category(one)[0] in "LMN")
    is_blank_line = is_newline & _before(is_newline)
    is_upper, is_letter = at(str.isupper), at(str.isalpha)
    is_word_start = is_word & ~_before(is_word)
    is_stop = at(lambda one: one in STOPS)
    word_length = np.where(is_word, _since(~is_word), 0)
    # A blank line ends all quotes, so that a forgotten mark does not turn the rest of a text inside out.
    is_in_straight = _count_since(at(lambda one: one == '"'), is_blank_line) % 2 == 1
    line_position = _since(is_newline)
    is_speaker_line = _on_lines_that_end_with(at(lambda one: one == ":"), is_newline)
    return [
        Label(
            "inside quotes",
            "within quotation marks",
            is_in_straight | _inside(at, "Pi", "Pf", is_blank_line),
        ),
        Label("inside brackets", "within (, [ or {", _inside(at, "Ps", "Pe", is_blank_line)),
        Label("line position", "characters since the line began", line_position),
        Label(
            "lines since a blank line", "counted from 0", _count_since(is_newline, is_blank_line)
        ),
        Label("speaker line", "on a line that ends with a colon", is_speaker_line),
        Label(
            "position in the name",
            "characters since such a line began, 0 on others",
            np.where(is_speaker_line, line_position, 0),
        ),
        Label("capital", "an upper-case letter", is_upper),
        Label(
            "capitals so far",
            "in a word all of capitals so far",
            (word_length >= 2) & (_since(~is_upper) >= word_length),
        ),
        Label("word start", "the first character of a word", is_word_start),
        Label("word length", "characters of the word so far, 0 between words", word_length),
        Label("letter", "a letter of any script", is_letter),
        Label("digit", "a decimal digit", at(str.isdecimal)),
        Label(
            "indentation", "blanks that the line began with so far", _indentation(at, is_newline)
        ),
        Label("sentence end", "a full stop, or another mark that ends a sentence", is_stop),
        Label("sentence position", "characters since a sentence ended", _since(is_stop)),
    ]


def _before(flags_N: Flags) -> Flags:
    """Whether the character before is one; the text's first has none before it."""
    return np.concatenate(([False], flags_N[:-1]))


def _since(starts_N: Flags) -> Numbers:
    """Characters since the last of `starts_N`, 0 at it; before the first, those since just before the text."""
    positions_N = np.arange(len(starts_N))
    return positions_N - np.maximum.accumulate(np.where(starts_N, positions_N, -1))


def _count_since(counted_N: Flags, starts_N: Flags) -> Numbers:
    """How many of `counted_N` there were since the last of `starts_N`."""
    return _reset(np.cumsum(counted_N), starts_N)


def _reset(sums_N: Numbers, starts_N: Flags) -> Numbers:
    """Running sums that start over at each of `starts_N`."""
    positions_N = np.arange(len(starts_N))
    last_N = np.maximum.accumulate(np.where(starts_N, positions_N, -1))
    return sums_N - np.where(last_N >= 0, sums_N[last_N], 0)


def _inside(at: Property, opening: str, closing: str, starts_N: Flags) -> Flags:
    """Whether more was opened than closed since the last of `starts_N`, by Unicode's categories.

    What closes nothing counts for nothing. The right single quote is an apostrophe far more often than it closes
    anything, so it and its twin do not count.
    """
    opened = at(
        lambda one: unicodedata.category(one) == opening and one != "\N{LEFT SINGLE QUOTATION MARK}"
    )
    closed = at(
        lambda one: (
            unicodedata.category(one) == closing and one != "\N{RIGHT SINGLE QUOTATION MARK}"
        )
    )
    grounds_N = np.cumsum(starts_N) * -(
        len(starts_N) + 1
    )  # a part's, deeper than any depth of the part before
    depths_N = _reset(np.cumsum(opened.astype(np.int64) - closed), starts_N) + grounds_N
    is_inside: Flags = depths_N > np.minimum.accumulate(np.minimum(depths_N, grounds_N))
    return is_inside


def _on_lines_that_end_with(is_end: Flags, is_newline: Flags) -> Flags:
    """Whether the character before a line's break is one, for all characters of the line but its break."""
    line_N: Numbers = np.cumsum(is_newline) - is_newline
    ends_so = np.zeros(int(line_N[-1]) + 2, bool)
    ends_so[line_N[is_newline]] = _before(is_end)[is_newline]
    return ends_so[line_N] & ~is_newline


def _indentation(at: Property, is_newline: Flags) -> Numbers:
    """Spaces and tabs at the beginning of the line; from its first other character on they stay what they were."""
    is_blank = at(lambda one: one in " \t")
    is_leading = is_blank & (_count_since(~is_blank & ~is_newline, is_newline) == 0)
    return _count_since(is_leading, is_newline)
