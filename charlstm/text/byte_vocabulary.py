"""The vocabulary of all 256 bytes, for texts with an alphabet of any size."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from charlstm.errors import VocabularyError
from charlstm.files.atomic import write_text
from charlstm.text.vocabulary import Ids, Vocab

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
