"""Text <-> ids: of the training part's characters, sorted by code point, or of the bytes of UTF-8."""

import codecs
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import EncodedError, VocabularyError
from charlstm.files.atomic import write_text
from charlstm.files.documents import read_json
from charlstm.text.units import Unit

UNSEEN = "\N{REPLACEMENT CHARACTER}"  # stands for every character that training never saw
NUM_CODE_POINTS = 0x110000
CHECKED_AT_ONCE = 2**22  # ids; more are checked as they are read, so that loading takes no time
Ids = NDArray[np.unsignedinteger]


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
        return isinstance(other, Vocab) and (self.unit, self.characters) == (other.unit, other.characters)

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
            raise VocabularyError(f"the vocabulary of {len(self)} characters lacks {describe(unknown)}")
        id_of = np.zeros(NUM_CODE_POINTS, self.dtype)
        id_of[self._code_points] = np.arange(len(self))
        return id_of[code_points(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; of an array, fast enough for a whole training text."""
        if isinstance(ids, np.ndarray):
            return self._code_points[ids].tobytes().decode("utf-32-le", "surrogatepass")
        return "".join(self.characters[index] for index in ids)

    def decoder(self) -> "Decoder":
        """For ids that come in pieces."""
        return Decoder(self)

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """The text of `ids` as UTF-8; a piece of a text may begin and end anywhere."""
        return self.decode(ids).encode()

    def num_ids(self, text: str) -> int:
        """The number of ids of `text`."""
        return len(text)

    def known(self) -> str:
        """What it knows, for a message."""
        return repr(self.characters[:200])

    def save(self, path: Path) -> None:
        """Write the characters as a JSON list: the id is the index."""
        write_text(path, json.dumps({"characters": list(self.characters)}, ensure_ascii=True, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Vocab":
        """Read what `save` wrote.

        Raises:
            VocabularyError: missing, not JSON, or not a list of distinct single characters.
        """
        try:
            characters = read_json(path)["characters"]
            distinct = set(characters)
            if (
                not isinstance(characters, list)
                or not characters
                or len(distinct) < len(characters)
                or any(len(one) != 1 for one in characters)
            ):
                raise ValueError
            return cls("".join(characters))
        except OSError as error:
            raise VocabularyError(f"{path}: cannot read the vocabulary: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise VocabularyError(
                f'{path}: expected {{"characters": [...]}} with distinct single characters; '
                f"the file is damaged, `dvc repro --force encode` rewrites it"
            ) from None


class Decoder:
    """Turns ids that come in pieces into text."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab

    @property
    def waiting(self) -> bytes:
        """The first bytes of a character that is not complete. Characters always are."""
        return b""

    def decode(self, ids: list[int]) -> str:
        """The characters that `ids` complete."""
        return self._vocab.decode(ids)


def describe(characters: Counter[str]) -> str:
    """The commonest of `characters` with code points and counts, for a message."""
    named = [f"{one!r} (U+{ord(one):04X}, {count} times)" for one, count in characters.most_common(5)]
    rest = len(characters) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def load_ids(path: Path, vocab_size: int) -> Ids:
    """Ids (N,) of unsigned dtype, memory-mapped: none is read but the first CHECKED_AT_ONCE, which are compared with
    `vocab_size`. Whoever reads the others checks what they read (`check_fit`).

    Raises:
        EncodedError: missing, not a `.npy` of ids, or an id that is not below `vocab_size`.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise EncodedError(f"{path}: cannot read encoded text: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise EncodedError(f"{path}: expected a .npy array of ids, found something else or a cut file") from None
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind != "u" or len(ids) < 2:
        raise EncodedError(f"{path}: expected at least 2 unsigned ids in one dimension, found {_kind(ids)}")
    try:
        check_fit(ids[:CHECKED_AT_ONCE], vocab_size)
    except EncodedError as error:
        raise EncodedError(f"{path}: {error}") from None
    return ids


def check_fit(ids: NDArray[np.integer], vocab_size: int) -> None:
    """Refuse ids that stand for no character.

    Raises:
        EncodedError: an id is not below `vocab_size`.
    """
    if (largest := int(ids.max(initial=0))) >= vocab_size:
        raise EncodedError(f"id {largest} does not fit the vocabulary of {vocab_size} characters")


def _kind(ids: object) -> str:
    return f"{ids.dtype} of shape {ids.shape}" if isinstance(ids, np.ndarray) else type(ids).__name__


def code_points(text: str) -> NDArray[np.uint32]:
    """The code point of each character (N,)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


# Text <-> the bytes of its UTF-8 form: a vocabulary of 256 ids for any text, however large its alphabet.

NUM_BYTES = 256  # 13 of them are in no UTF-8 text. They have ids, too, so that an id is its byte


class ByteVocab(Vocab):
    """All bytes; a byte's id is its value. No character is unknown, but for what is none: half a surrogate pair."""

    unit = "byte"

    def __init__(self) -> None:
        super().__init__("")
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return NUM_BYTES

    def unknown(self, text: str) -> Counter[str]:
        """Surrogates, which UTF-8 does not have. Python has them for bytes of an argument that are no UTF-8."""
        return Counter(one for one in text if "\ud800" <= one <= "\udfff") if not _is_utf8(text) else Counter()

    def encode(self, text: str) -> Ids:
        """The bytes (N,) of `text`.

        Raises:
            VocabularyError: it has surrogates.
        """
        if unknown := self.unknown(text):
            raise VocabularyError(f"UTF-8 lacks {describe(unknown)}")
        return np.frombuffer(text.encode(), np.uint8)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`.

        Raises:
            VocabularyError: they are not UTF-8, e.g. because a character is cut.
        """
        content = self.utf8_of(ids)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise VocabularyError(f"expected UTF-8, found {error.reason} at byte {error.start}") from None

    def decoder(self) -> "ByteDecoder":
        """For ids that come in pieces."""
        return ByteDecoder()

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """The bytes themselves."""
        return ids.tobytes() if isinstance(ids, np.ndarray) and ids.dtype == np.uint8 else bytes(map(int, ids))

    def num_ids(self, text: str) -> int:
        """The number of bytes of `text`."""
        return len(text.encode())

    def known(self) -> str:
        """What it knows, for a message."""
        return "every character of Unicode"

    def save(self, path: Path) -> None:
        """Write the unit: it is all there is to know."""
        write_text(path, json.dumps({"unit": self.unit}) + "\n")


class ByteDecoder(Decoder):
    """Text as far as its bytes are whole characters; what is left of a last one waits."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, ids: list[int]) -> str:
        """The characters that `ids` complete."""
        return self._decoder.decode(bytes(ids))

    @property
    def waiting(self) -> bytes:
        """The first bytes of a character that is not complete."""
        return self._decoder.getstate()[0]


def load_vocab(path: Path) -> Vocab:
    """The vocabulary in a file, of bytes or of characters. A file that names no unit is of characters.

    Raises:
        VocabularyError: missing or damaged.
    """
    try:
        is_of_bytes = read_json(path).get("unit") == ByteVocab.unit
    except (OSError, ValueError, AttributeError):
        is_of_bytes = False  # the other one says what is wrong
    return ByteVocab() if is_of_bytes else Vocab.load(path)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
