"""What can be said of each character of a text from the text alone, e.g. that it stands inside quotes.

A label describes the text up to and with its character. Only the two labels of speaker lines look ahead, to the end of
the line: how a name begins tells a reader, too. No language is assumed: words are letters, marks and digits of any
script, and sentences end at the stops of several.
Shapes: N characters, V vocabulary.
"""

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids, Vocab

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
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
        """Whether it has no more than two values."""
        return self.values_N.dtype == np.bool_


def labels_of(ids_N: Ids, vocab: Vocab) -> list[Label]:
    """All labels of a text, also those that never vary in it."""

    def at(is_so: Callable[[str], bool]) -> Flags:
        return np.array([is_so(one) for one in vocab.characters], bool)[ids_N]

    is_newline, is_word = at(lambda one: one == "\n"), at(_is_of_a_word)
    is_blank_line = is_newline & _before(is_newline)
    is_upper, is_letter = at(str.isupper), at(str.isalpha)
    is_word_start = is_word & ~_before(is_word)
    is_stop = at(lambda one: one in STOPS)
    line_position = _since(is_newline)
    is_speaker_line = _on_lines_that_end_with(at(lambda one: one == ":"), is_newline)
    return [
        Label("inside quotes", "within quotation marks", _inside_quotes(at, is_blank_line)),
        Label("inside brackets", "within (, [ or {", _inside(at, ("Ps",), ("Pe",), is_blank_line)),
        Label("line position", "characters since the line began", line_position),
        Label("lines since a blank line", "counted from 0", _count_since(is_newline, is_blank_line)),
        Label("speaker line", "on a line that ends with a colon", is_speaker_line),
        Label(
            "position in the name",
            "characters since such a line began, 0 on others",
            np.where(is_speaker_line, line_position, 0),
        ),
        Label("capital", "an upper-case letter", is_upper),
        Label("capitals so far", "in a word all of capitals so far", _capitals_so_far(is_upper, is_word)),
        Label("word start", "the first character of a word", is_word_start),
        Label("word length", "characters of the word so far, 0 between words", np.where(is_word, _since(~is_word), 0)),
        Label("letter", "a letter of any script", is_letter),
        Label("digit", "a decimal digit", at(str.isdecimal)),
        Label("indentation", "blanks that the line began with so far", _indentation(at, is_newline)),
        Label("sentence end", "a full stop, or another mark that ends a sentence", is_stop),
        Label("sentence position", "characters since a sentence ended", _since(is_stop)),
    ]


def _is_of_a_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


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


def _inside_quotes(at: Property, is_blank_line: Flags) -> Flags:
    """A blank line ends all quotes, so that a forgotten mark does not turn the rest of a text inside out."""
    is_in_straight: Flags = _count_since(at(lambda one: one == '"'), is_blank_line) % 2 == 1
    return is_in_straight | _inside(at, ("Pi",), ("Pf",), is_blank_line)


def _inside(at: Property, opening: tuple[str, ...], closing: tuple[str, ...], starts_N: Flags) -> Flags:
    """Whether more was opened than closed since the last of `starts_N`, by Unicode's categories.

    What closes nothing counts for nothing. The right single quote is an apostrophe far more often than it closes
    anything, so it and its twin do not count.
    """
    opened = at(lambda one: unicodedata.category(one) in opening and one != "\N{LEFT SINGLE QUOTATION MARK}")
    closed = at(lambda one: unicodedata.category(one) in closing and one != "\N{RIGHT SINGLE QUOTATION MARK}")
    grounds_N = np.cumsum(starts_N) * -(len(starts_N) + 1)  # a part's, deeper than any depth of the part before
    depths_N = _reset(np.cumsum(opened.astype(np.int64) - closed), starts_N) + grounds_N
    is_inside: Flags = depths_N > np.minimum.accumulate(np.minimum(depths_N, grounds_N))
    return is_inside


def _on_lines_that_end_with(is_end: Flags, is_newline: Flags) -> Flags:
    """Whether the character before a line's break is one, for all characters of the line but its break."""
    line_N: Numbers = np.cumsum(is_newline) - is_newline
    ends_so = np.zeros(int(line_N[-1]) + 2, bool)
    ends_so[line_N[is_newline]] = _before(is_end)[is_newline]
    return ends_so[line_N] & ~is_newline


def _capitals_so_far(is_upper: Flags, is_word: Flags) -> Flags:
    """In a word, and since its beginning there was nothing but capitals; at least two."""
    is_other = ~is_upper
    length = np.where(is_word, _since(~is_word), 0)
    return (length >= 2) & (_since(is_other) >= length)


def _indentation(at: Property, is_newline: Flags) -> Numbers:
    """Spaces and tabs at the beginning of the line; from its first other character on they stay what they were."""
    is_blank = at(lambda one: one in " \t")
    is_leading = is_blank & (_count_since(~is_blank & ~is_newline, is_newline) == 0)
    return _count_since(is_leading, is_newline)


# How strongly cells go with labels: rank correlations, which ask for no unit and no shape of the relation.
#
# For a yes-or-no label it is 2 AUC - 1 (the rank-biserial correlation, Cureton 1956): how much oftener the cell is
# higher where the label holds than lower. For a number it is Spearman's. Both are from -1 to 1, and 0 where nothing is
# related.
# Shapes: U cells, K labels, N characters.

Floats = NDArray[np.float64]
NUM_STATES = 2**14  # that are told apart between the lowest and the highest of a cell
MIN_FALLS = 5  # from yes to no, or to a smaller number


def varies(label: Label) -> bool:
    """Whether a label falls often enough for anything to be said of it."""
    return int((np.diff(label.values_N.astype(np.int64)) < 0).sum()) >= MIN_FALLS


def effects(cells_UN: NDArray[np.float16], labels: Sequence[Label]) -> Floats:
    """The effects (U, K) of labels that vary."""
    weights_KN = np.stack([_weights(label) for label in labels])
    return np.stack([weights_KN @ ranks_of(cell_N) for cell_N in cells_UN])


def best_cells(effects_UK: Floats) -> NDArray[np.intp]:
    """The cell with the largest effect on each label, in either direction."""
    cells_K: NDArray[np.intp] = np.abs(effects_UK).argmax(0)
    return cells_K


def shifted_effects(cell_N: NDArray[np.float16], label: Label) -> Floats:
    """The effects (N) of one cell with the label shifted by 0, 1, ... characters, round from the end to the start."""
    spectrum = np.fft.rfft(ranks_of(cell_N)) * np.conj(np.fft.rfft(_weights(label)))
    return np.fft.irfft(spectrum, len(cell_N))


def ranks_of(cell_N: NDArray[np.float16]) -> Floats:
    """Ranks of cell states, mean 0 and length 1; nearly equal ones share a rank. All 0 for a cell that never moves."""
    states_N = cell_N.astype(np.float32)
    low, high = states_N.min(), states_N.max()
    scale = (NUM_STATES - 1) / ((high - low) or 1)
    return _unit(_mid_ranks(((states_N - low) * scale).astype(np.int64), NUM_STATES))


def ranks_of_label(label: Label) -> Floats:
    """Ranks (N) of a label's values, mean 0 and length 1; equal values share a rank."""
    _, codes_N = np.unique(label.values_N, return_inverse=True)
    return _unit(_mid_ranks(codes_N, int(codes_N.max()) + 1))


def _weights(label: Label) -> Floats:
    """What ranks (N) of length 1 are multiplied with to give the effect."""
    if not label.is_yes_or_no:
        return ranks_of_label(label)
    num_chars = len(label.values_N)
    share = label.values_N.mean()
    per_char_N = np.where(label.values_N, 1 / share, -1 / (1 - share)) / num_chars
    length_of_untied_ranks = (num_chars * (num_chars**2 - 1) / 12) ** 0.5
    weights_N: Floats = per_char_N * (2 / num_chars * length_of_untied_ranks)
    return weights_N


def _mid_ranks(codes_N: NDArray[np.integer], num_codes: int) -> Floats:
    counts = np.bincount(codes_N, minlength=num_codes)
    ranks_N: Floats = (np.cumsum(counts) - counts / 2)[codes_N]
    return ranks_N


def _unit(values_N: Floats) -> Floats:
    centered_N = values_N - values_N.mean()
    length = float(np.linalg.norm(centered_N))
    unit_N: Floats = centered_N / (length or 1.0)
    return unit_N


# A text beside what a cell did in it: an excerpt with the cell's states, and the places where they are extreme.
#
# States are c, not tanh(c): a counter may count on where tanh has long been 1. Shapes: N characters.

EXCERPT_LEN = 1_000  # characters
NUM_CONTEXTS = 4  # at either end
BEFORE, AFTER = 48, 12  # characters of a context
APART = 200  # characters between two contexts, at least
FULL = 100  # the level of an extreme state


class Place(NamedTuple):
    """A character, by its number from 0, and the cell state there."""

    at: int
    state: float


def excerpt_start(label: Label, line_ends: NDArray[np.intp]) -> int:
    """Where an excerpt begins that shows a label's values: the choice knows nothing of any cell.

    It is the first line whose EXCERPT_LEN characters have at least half of the variance of the most varied excerpt's.
    """
    ranks_N = ranks_of_label(label)
    sums, squares = (np.concatenate(([0.0], np.cumsum(ranks_N**power))) for power in (1, 2))
    starts = line_ends[line_ends < len(ranks_N) - EXCERPT_LEN] + 1
    starts = starts if len(starts) else np.arange(0, len(ranks_N) - EXCERPT_LEN + 1, EXCERPT_LEN // 4)
    means, mean_squares = ((one[starts + EXCERPT_LEN] - one[starts]) / EXCERPT_LEN for one in (sums, squares))
    variances = mean_squares - means**2
    return int(starts[np.argmax(variances >= variances.max() / 2)])


def levels(cell_N: NDArray[np.float16], shown: slice) -> list[int]:
    """Cell states at some characters as whole numbers: 0 is the median of all, ±FULL or beyond is FULL.

    FULL is as far from the median as the farther one of the 1st and the 99th percentile.
    """
    states_N = cell_N.astype(np.float32)
    low, median, high = np.quantile(states_N, (0.01, 0.5, 0.99))
    scale = max(high - median, median - low, np.finfo(np.float32).tiny)
    return [int(one) for one in np.rint((states_N[shown] - median) / scale * FULL).clip(-FULL, FULL)]


def extremes(cell_N: NDArray[np.float16], *, highest: bool) -> list[Place]:
    """The NUM_CONTEXTS places with the highest or lowest states, the utmost first; at least APART from each other."""
    order = np.argsort(-cell_N if highest else cell_N, kind="stable")
    found: list[Place] = []
    for index in order:
        if all(abs(int(index) - one.at) >= APART for one in found):
            found.append(Place(int(index), float(cell_N[index])))
        if len(found) == NUM_CONTEXTS:
            break
    return found
