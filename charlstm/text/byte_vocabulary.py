"""Text <-> the bytes of its UTF-8 form: a vocabulary of 256 ids for any text, however large its alphabet."""

import codecs
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from charlstm.errors import VocabularyError
from charlstm.storage.documents import read_json
from charlstm.storage.files import write_text
from charlstm.text.vocabulary import Decoder, Ids, Vocab, describe

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
