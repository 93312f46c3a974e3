"""A vocabulary of the 256 bytes, for any text, however large its alphabet."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from charlstm.errors import VocabularyError
from charlstm.files.atomic import write_text
from charlstm.text.vocabulary import Ids, Vocab

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
        return Counter(re.findall("[\ud800-\udfff]", text))

    def ids_of(self, text: str) -> Ids:
        """The bytes (N,)."""
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
            raise VocabularyError(
                f"expected UTF-8, found {error.reason} at byte {error.start}"
            ) from None

    def utf8_of(self, ids: Iterable[int]) -> bytes:
        """The bytes themselves."""
        return (
            ids.tobytes()
            if isinstance(ids, np.ndarray) and ids.dtype == np.uint8
            else bytes(map(int, ids))
        )

    def num_ids(self, text: str) -> int:
        """The number of bytes of `text`."""
        return len(text.encode())

    def save(self, path: Path) -> None:
        """Write the unit: it is all there is to know."""
        write_text(path, json.dumps({"unit": self.unit}) + "\n")
