"""What a text is made of, counted while it is read piece by piece: characters, lines, line ends, repetitions."""

import unicodedata
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.text.corpus import Characters
from charlstm.text.vocabulary import NUM_CODE_POINTS, code_points

MAX_REMEMBERED = 16_000_000  # characters, from the beginning, whose lines are compared with each other
MIN_LINE_LEN = 20  # characters: shorter lines are alike in any text
MIN_REPEATS = 10
LINE_FEED, CARRIAGE_RETURN = 10, 13
CATEGORIES = {"Z": "spaces", "C": "controls", "P": "punctuation", "N": "digits", "S": "symbols", "M": "marks"}


class Repeated(NamedTuple):
    """Lines of 20 characters or more that are in the text 10 times or more."""

    share: float  # of all characters that were compared
    commonest: str
    num_times: int


class Findings(NamedTuple):
    """What was counted."""

    num_chars: int
    counts: Counter[str]  # of each character
    num_lines: int
    longest_line: int  # characters
    num_crlf: int  # CR LF pairs
    num_lone_cr: int  # CR without a LF after it
    repeated: Repeated | None

    def with_line_feeds(self) -> "Findings":
        """What they are when each CR LF has become LF; how many CR LF there were stays known."""
        if not self.num_crlf:
            return self
        counts = self.counts - Counter({"\r": self.num_crlf})
        again = self.repeated and self.repeated._replace(commonest=self.repeated.commonest.removesuffix("\r"))
        is_all = self.num_crlf >= self.num_lines - 1  # else the longest line may end with LF alone
        return self._replace(
            num_chars=self.num_chars - self.num_crlf,
            counts=counts,
            longest_line=self.longest_line - is_all,
            repeated=again,
        )

    def scripts(self) -> list[tuple[str, float]]:
        """Each script and its share of all characters, the largest first.

        A letter's script is the first word of its name in Unicode; other characters go by their category.
        """
        found = Counter[str]()
        for character, count in self.counts.items():
            found[_script(character)] += count
        return [(script, count / self.num_chars) for script, count in found.most_common()]

    def of_category(self, *categories: str) -> Counter[str]:
        """The characters of these categories of Unicode, e.g. `Co`, with their counts."""
        return Counter({one: count for one, count in self.counts.items() if unicodedata.category(one) in categories})


class Inspection:
    """Counts a text that comes in pieces. Its memory is bounded, however long the text and its lines are."""

    def __init__(self) -> None:
        self._counts = np.zeros(NUM_CODE_POINTS, np.int64)
        self._num_chars = self._num_line_feeds = self._num_crlf = self._longest = self._open = 0
        self._last = -1  # code point before the next piece
        self._lines, self._rest, self._num_remembered = Counter[str](), "", 0

    def add(self, piece: Characters) -> None:
        """Count the next piece of the text."""
        if not piece:
            return
        points_N = np.frombuffer(piece, np.uint8) if isinstance(piece, bytes) else code_points(piece)
        counts = np.bincount(points_N)
        self._counts[: len(counts)] += counts
        self._num_chars += len(piece)
        self._add_lines(points_N)
        if self._num_remembered < MAX_REMEMBERED:
            text = piece if isinstance(piece, str) else piece.decode("ascii")
            *lines, self._rest = (self._rest + text).split("\n")
            self._lines.update(line for line in lines if len(line) >= MIN_LINE_LEN)
            self._num_remembered += len(piece)

    def _add_lines(self, points_N: NDArray[np.unsignedinteger]) -> None:
        ends = np.flatnonzero(points_N == LINE_FEED)
        self._num_crlf += int((points_N[ends[ends > 0] - 1] == CARRIAGE_RETURN).sum())
        self._num_crlf += int(self._last == CARRIAGE_RETURN and points_N[0] == LINE_FEED)
        self._last = int(points_N[-1])
        self._num_line_feeds += len(ends)
        if len(ends):
            lengths = np.diff(ends) - 1
            self._longest = max(self._longest, self._open + int(ends[0]), int(lengths.max(initial=0)))
            self._open = 0
        self._open += len(points_N) - (int(ends[-1]) + 1 if len(ends) else 0)

    def findings(self) -> Findings:
        """What was counted so far."""
        counts = Counter({chr(point): int(self._counts[point]) for point in np.flatnonzero(self._counts)})
        return Findings(
            num_chars=self._num_chars,
            counts=counts,
            num_lines=self._num_line_feeds + (self._open > 0),
            longest_line=max(self._longest, self._open),
            num_crlf=self._num_crlf,
            num_lone_cr=counts["\r"] - self._num_crlf,
            repeated=self._repeated(),
        )

    def _repeated(self) -> Repeated | None:
        often = {line: count for line, count in self._lines.items() if count >= MIN_REPEATS}
        if not often:
            return None
        commonest = max(often, key=often.__getitem__)
        share = sum((len(line) + 1) * count for line, count in often.items()) / self._num_remembered
        return Repeated(share, commonest, often[commonest])


def _script(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category != "L":
        return CATEGORIES[category]
    word = unicodedata.name(character, "unnamed letters").split()[0]
    return word if word == "CJK" else word.capitalize()
