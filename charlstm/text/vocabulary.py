"""Text <-> ids: of the training part's characters, sorted by code point, or of the bytes of UTF-8."""

import codecs
import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.files.atomic import write_text

UNSEEN = "\N{REPLACEMENT CHARACTER}"  # stands for every character that training never saw
NUM_CODE_POINTS = 0x110000
Ids = NDArray[np.unsignedinteger]
Counts = NDArray[np.int64]  # (NUM_CODE_POINTS,)
Unit = Literal["character", "byte"]  # what an id stands for


class Vocab:
    """An ordered set of characters; a character's id is its index. `ByteVocab` takes its place for bytes."""

    unit: ClassVar[Unit] = "character"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._code_points = code_points(characters)
        self.dtype = np.min_scalar_type(max(0, len(characters) - 1))

    @classmethod
    def of(cls, text: str) -> "Vocab":
        """The characters of `text`, sorted by code point."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and (self.unit, self.characters) == (
            other.unit,
            other.characters,
        )

    __hash__ = None  # type: ignore[assignment]  # a set of vocabularies has no use here

    def unknown(self, text: str) -> Counter[str]:
        """The characters of `text` that this vocabulary lacks, with their counts."""
        known = set(self.characters)
        return Counter(character for character in text if character not in known)

    def encode(self, text: str) -> Ids:
        """Ids (N,) in the smallest unsigned dtype.

        Raises:
            VocabularyError: a character is unknown; names all of them.
        """
        if unknown := self.unknown(text):
            raise VocabularyError(
                f"the vocabulary of {len(self)} {self.unit}s lacks {describe(unknown)}"
            )
        return self.ids_of(text)

    def ids_of(self, text: str) -> Ids:
        """Ids (N,); characters that the vocabulary lacks have the id of U+FFFD, which it must have then."""
        if text.isascii() and self.dtype.itemsize == 1:  # faster
            return np.frombuffer(text.encode().translate(self._id_of[:256].tobytes()), np.uint8)
        return np.take(
            self._id_of, code_points(text), mode="clip"
        )  # "clip" is faster than to raise

    @cached_property
    def _id_of(self) -> Ids:
        """The id of each code point."""
        ids = np.full(NUM_CODE_POINTS, max(0, self.characters.find(UNSEEN)), self.dtype)
        ids[self._code_points] = np.arange(len(self))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; of an array, fast enough for a whole training text."""
        if isinstance(ids, np.ndarray):
            return self._code_points[ids].tobytes().decode("utf-32-le", "surrogatepass")
        return "".join(self.characters[index] for index in ids)

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """The text of `ids` as UTF-8; a piece of a text may begin and end anywhere."""
        return self.decode(ids).encode()

    def num_ids(self, text: str) -> int:
        """The number of ids of `text`."""
        return len(text)

    def save(self, path: Path) -> None:
        """Write the characters as a JSON list: the id is the index."""
        write_text(
            path,
            json.dumps({"characters": list(self.characters)}, ensure_ascii=True, indent=1) + "\n",
        )


class Decoder:
    """Turns ids that come in pieces into text, as far as their bytes are whole characters."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab, self._decoder = vocab, codecs.getincrementaldecoder("utf-8")()

    @property
    def waiting(self) -> bytes:
        """The first bytes of a character that is not complete. Ids of characters leave none."""
        return self._decoder.getstate()[0]

    def decode(self, ids: Iterable[int]) -> str:
        """The characters that `ids` complete."""
        return self._decoder.decode(self._vocab.utf8_of(ids))


def describe(characters: Counter[str]) -> str:
    """The commonest of `characters` with code points and counts, for a message."""
    named = [
        f"{one!r} (U+{ord(one):04X}, {'once' if count == 1 else f'{count} times'})"
        for one, count in characters.most_common(5)
    ]
    rest = len(characters) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def code_points(text: str) -> NDArray[np.uint32]:
    """The code point of each character (N,)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
