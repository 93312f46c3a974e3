"""Prompts: some that any text has, beginnings of lines of its validation part; and characters a model never saw."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab

NUM_BEGINNINGS = 3
MAX_LEN = 12  # characters
MAX_READ = 100_000  # ids of the validation part, from its beginning
LINE_END = "\n"


def resolve_prompts(
    prompts: tuple[str, ...] | Literal["auto"], val_ids: Ids, vocab: Vocab
) -> tuple[str, ...]:
    """`prompts` as they are; or, where they are `auto`, prompts from the validation part.

    Those are a line break, if the vocabulary has it, and the beginnings of three lines, at places that are spread over
    the part's first 100,000 ids. Where there are no three lines, they are beginnings of words, or of pieces of equal
    length. Each has up to 12 characters, and ends where a word ends if the line has spaces. The vocabulary has all of
    them. The same ids and the same vocabulary always give the same prompts, at least one, and none twice.
    """
    if prompts != "auto":
        return prompts
    text = vocab.decode(EncodedText(val_ids, vocab.unit).first(MAX_READ).ids)
    line_end = [] if vocab.unknown(LINE_END) else [LINE_END]
    beginnings = _beginnings(text)
    # At equal distances from the first one; all of fewer.
    edges = [len(beginnings) * index // NUM_BEGINNINGS for index in range(NUM_BEGINNINGS + 1)]
    spread = [beginnings[start] for start, end in pairwise(edges) if start < end]
    any_character = next((one for one in text if one != UNSEEN), vocab.characters[:1] or LINE_END)
    return tuple(line_end + spread) or (any_character,)


def _beginnings(text: str) -> Sequence[str]:
    """Beginnings of lines; of words if there are too few lines; of equally long pieces if there are too few words."""
    lines = _distinct(text.splitlines()[1:], 2)  # the part may begin in the middle of a line
    if len(lines) >= NUM_BEGINNINGS:
        return lines
    words = _distinct(
        (text[word.start() :][: 2 * MAX_LEN] for word in re.finditer(r"(?<=\s)\S", text)), 2
    )
    if len(words) >= NUM_BEGINNINGS:
        return words
    pieces = _distinct((text[at : at + MAX_LEN] for at in range(0, len(text), MAX_LEN)), 1)
    return max(lines, words, pieces, key=len)


def _distinct(texts: Iterable[str], min_len: int) -> list[str]:
    """The beginning of each text, in their order; none twice, none short, none with the sign for unseen ones."""
    cut = (_cut(line[0]) for text in texts if (line := text.strip().splitlines()))
    return list(dict.fromkeys(one for one in cut if len(one) >= min_len and UNSEEN not in one))


def _cut(line: str) -> str:
    """Return the first characters of `line`, up to the last end of a word among them if there is one."""
    if len(line) <= MAX_LEN:
        return line
    return line[: MAX_LEN + 1].rpartition(" ")[0].rstrip() or line[:MAX_LEN]
