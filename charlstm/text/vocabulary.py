"""The vocabulary: it converts text to ids and ids to text."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.files.atomic import read_document, write_text

UNSEEN = "\N{REPLACEMENT CHARACTER}"  # represents every character that is not in the vocabulary
NUM_CODE_POINTS = 0x110000
Ids = NDArray[np.unsignedinteger]
Counts = NDArray[np.int64]  # occurrences of each code point, (NUM_CODE_POINTS,)
Unit = Literal["character", "byte"]  # what an id stands for


class Vocab:
    """An ordered set of characters. The id of a character is its index.

    The subclass `ByteVocab` has bytes instead of characters.
    """

    unit: ClassVar[Unit] = "character"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._code_points = code_points(characters)
        self.dtype = np.min_scalar_type(max(0, len(characters) - 1))

    @classmethod
    def of(cls, text: str) -> "Vocab":
        """Return the vocabulary of all characters in `text`, sorted by code point."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocab):
            return False
        return (self.unit, self.characters) == (other.unit, other.characters)

    __hash__ = None  # type: ignore[assignment]  # vocabularies are never in a set

    def unknown(self, text: str) -> Counter[str]:
        """Return the characters of `text` that the vocabulary lacks, with their counts."""
        known = set(self.characters)
        return Counter(character for character in text if character not in known)

    def encode(self, text: str) -> Ids:
        """Return the ids (N,) of `text` in the smallest unsigned dtype that fits.

        Raises:
            VocabularyError: the vocabulary lacks characters of `text`.
        """
        if unknown := self.unknown(text):
            raise VocabularyError(
                f"the vocabulary of {len(self)} {self.unit}s lacks {describe(unknown)}"
            )
        return self.ids_of(text)

    def ids_of(self, text: str) -> Ids:
        """Return the ids (N,) of `text`. A character that the vocabulary lacks becomes U+FFFD.

        If there is such a character, the vocabulary must have U+FFFD.
        """
        # `clip` is faster because it skips the bounds check, and no code point is out of range.
        return np.take(self._id_of, code_points(text), mode="clip")

    @cached_property
    def _id_of(self) -> Ids:
        """Id of each code point, as an array (NUM_CODE_POINTS,)."""
        ids = np.full(NUM_CODE_POINTS, max(0, self.characters.find(UNSEEN)), self.dtype)
        ids[self._code_points] = np.arange(len(self))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that the ids encode. An array is decoded much faster than a list."""
        if isinstance(ids, np.ndarray):
            return self._code_points[ids].tobytes().decode("utf-32-le", "surrogatepass")
        return "".join(self.characters[index] for index in ids)

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """Return the ids' text in UTF-8. A byte vocabulary may cut a character at either end."""
        return self.decode(ids).encode()

    def num_ids(self, text: str) -> int:
        """Return the number of ids that encode `text`."""
        return len(self.ids_of(text))

    def save(self, path: Path) -> None:
        """Write the characters to a JSON file, sorted by id."""
        write_text(path, json.dumps({"characters": list(self.characters)}, indent=1) + "\n")


class Decoder:
    """Incremental decoder of ids. It returns a character when all its bytes have been read."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def waiting(self) -> bytes:
        """Bytes of an incomplete character. Always empty for a character vocabulary."""
        return self._decoder.getstate()[0]

    def decode(self, ids: Iterable[int]) -> str:
        """Read more ids. Return the characters that are now complete."""
        return self._decoder.decode(self._vocab.utf8_of(ids))


def describe(characters: Counter[str]) -> str:
    """Describe the most common `characters` for a message, with code points and counts."""
    most_common = characters.most_common(5)
    named = [
        f"{character!r} (U+{ord(character):04X}, {'once' if count == 1 else f'{count} times'})"
        for character, count in most_common
    ]
    if len(characters) > len(named):
        return f"{', '.join(named)} and {len(characters) - len(named)} more"
    return ", ".join(named)


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of all characters in `text`, as an array (N,)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


# UTF-8 never uses 13 of the 256 bytes. These also have ids, so that a byte's id is its value.
NUM_BYTES = 256


class ByteVocab(Vocab):
    """Vocabulary of all bytes. The id of a byte is its value.

    Every character can be encoded, except an unpaired surrogate.
    """

    unit = "byte"

    def __init__(self) -> None:
        super().__init__("")
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return NUM_BYTES

    def unknown(self, text: str) -> Counter[str]:
        """Return the surrogates in `text`, which UTF-8 cannot encode, with their counts.

        Python uses surrogates to represent invalid bytes in command-line arguments.
        """
        return Counter(re.findall("[\ud800-\udfff]", text))

    def ids_of(self, text: str) -> Ids:
        """Return the UTF-8 bytes of `text` as ids (N,)."""
        return np.frombuffer(text.encode(), np.uint8)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that the ids encode in UTF-8.

        Raises:
            VocabularyError: the bytes are not UTF-8, for instance because a character is cut.
        """
        try:
            return self.utf8_of(ids).decode()
        except UnicodeDecodeError as error:
            raise VocabularyError(
                f"expected UTF-8, found {error.reason} at byte {error.start}"
            ) from None

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """Return the bytes in `ids`, which is a list of integers or a uint8 array."""
        return bytes(ids)

    def save(self, path: Path) -> None:
        """Write a JSON file that says only `byte`, because all byte vocabularies are the same."""
        write_text(path, json.dumps({"unit": self.unit}) + "\n")


VOCAB = "vocab.json"  # in the folders of encoded texts and of models


def load_vocab(path: Path) -> Vocab:
    """Load a vocabulary from a file: characters, or all bytes if the file's `unit` is `byte`.

    Raises:
        VocabularyError: the file is missing, not JSON, or not a list of distinct single characters.
    """
    try:
        document = json.loads(read_document(path))
        if document.get("unit") == ByteVocab.unit:
            return ByteVocab()
        characters = document["characters"]
        is_list = isinstance(characters, list) and len(characters) > 0
        if not is_list or len(set(characters)) < len(characters):
            raise ValueError
        if any(len(character) != 1 for character in characters):
            raise ValueError
        return Vocab("".join(characters))
    except OSError as error:
        raise VocabularyError(f"{path}: cannot read the vocabulary: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise VocabularyError(
            f'{path}: expected {{"characters": [...]}} with distinct single characters; '
            f"the file is damaged; run `dvc repro --force --single-item encode` to rewrite it"
        ) from None
