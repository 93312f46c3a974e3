"""Prompts for any text: beginnings of lines of its validation part, so every text has some."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from charlstm.text.units import from_whole_character, whole_characters
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab

NUM_BEGINNINGS = 3
MAX_LEN = 12  # characters
MAX_READ = 100_000  # ids of the validation part, from its beginning
LINE_END = "\n"
JOINER = "\N{ZERO WIDTH JOINER}"
SKIN_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}


def resolve_prompts(prompts: tuple[str, ...] | Literal["auto"], val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """`prompts` as they are; or, where they are `auto`, prompts from the validation part.

    Those are a line break, if the vocabulary has it, and the beginnings of three lines, at places that are spread over
    the part's first 100,000 ids. Where there are no three lines, they are beginnings of words, or of pieces of equal
    length. Each has up to 12 characters, and ends where a word ends if the line has spaces. The vocabulary has all of
    them. The same ids and the same vocabulary always give the same prompts, at least one, and none twice.
    """
    if prompts != "auto":
        return prompts
    ids = from_whole_character(val_ids[:MAX_READ], vocab.unit)
    text = vocab.decode(whole_characters(ids, vocab.unit))
    line_end = [] if vocab.unknown(LINE_END) else [LINE_END]
    return tuple(line_end + _spread(_beginnings(text), NUM_BEGINNINGS)) or (_any_character(text, vocab),)


def _beginnings(text: str) -> Sequence[str]:
    """Of lines; of words if there are too few lines; of pieces of equal length if there are too few words."""
    lines = _distinct(text.splitlines()[1:], 2)  # the part may begin in the middle of a line
    if len(lines) >= NUM_BEGINNINGS:
        return lines
    words = _distinct((text[word.start() :][: 2 * MAX_LEN] for word in re.finditer(r"(?<=\s)\S", text)), 2)
    if len(words) >= NUM_BEGINNINGS:
        return words
    pieces = _distinct((text[at : at + MAX_LEN] for at in range(0, len(text), MAX_LEN)), 1)
    return max(lines, words, pieces, key=len)


def _distinct(texts: Iterable[str], min_len: int) -> list[str]:
    """The beginning of each text, in their order; none twice, none short, none with the sign for unseen ones."""
    cut = (_cut(line[0]) for text in texts if (line := text.strip().splitlines()))
    return list(dict.fromkeys(one for one in cut if len(one) >= min_len and UNSEEN not in one))


def _cut(line: str) -> str:
    """The first characters of `line`, to the last end of a word among them, or to the last end of a visible sign.

    `e` and an accent that follows it, or a family of emoji, are one sign. A sign that is longer than a prompt is torn.
    """
    if len(line) <= MAX_LEN:
        return line
    if words := line[: MAX_LEN + 1].rpartition(" ")[0].rstrip():
        return words
    end = MAX_LEN
    while end > 1 and _continues(line[end - 1], line[end]):
        end -= 1
    return line[: end if end > 1 else MAX_LEN]


def _continues(before: str, character: str) -> bool:
    """Whether `character` belongs to the same visible sign as the one before it."""
    is_mark = unicodedata.category(character).startswith("M") or character in SKIN_TONES
    return is_mark or JOINER in (before, character)


def _spread(texts: Sequence[str], num_texts: int) -> list[str]:
    """`num_texts` of `texts`, or all of fewer, at equal distances from the first one."""
    edges = [len(texts) * index // num_texts for index in range(num_texts + 1)]
    return [texts[start] for start, end in pairwise(edges) if start < end]


def _any_character(text: str, vocab: Vocab) -> str:
    return next((one for one in text if one != UNSEEN), vocab.characters[0] if vocab.characters else LINE_END)
