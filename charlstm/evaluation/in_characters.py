"""A model's text as ids of characters, also where the model itself reads bytes: so that lengths and places count those.

What is found in such a text (words, copied spans, lines and columns) is then of characters, whatever the model's unit.
Shapes: N ids.
"""

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from charlstm.text.vocabulary import Ids, Vocab

CHUNK = 2**24  # bytes at a time


def in_characters(vocab: Vocab, texts: Iterable[str], *parts: Ids) -> tuple[Vocab, list[Ids]]:
    """A vocabulary of characters for `texts` and for `parts`, which are ids of `vocab`; and the parts as its ids.

    Of a vocabulary of characters, all is as it was. Of bytes, the alphabet is what the texts and parts have, and the
    parts come to be in memory: 1 to 4 bytes a character, as the alphabet's size asks.
    """
    if vocab.unit == "character":
        return vocab, list(parts)
    alphabet = set(chain.from_iterable(texts))
    for part in parts:
        for piece in _pieces(part):
            alphabet |= set(piece)
    found = Vocab("".join(sorted(alphabet)))
    empty = found.encode("")
    return found, [np.concatenate([empty, *map(found.encode, _pieces(part))]) for part in parts]


def _pieces(ids: Ids) -> Iterator[str]:
    """The text, cut between characters.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8, which no stage writes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(ids), CHUNK):
        yield decoder.decode(np.asarray(ids[start : start + CHUNK]).tobytes(), final=start + CHUNK >= len(ids))
