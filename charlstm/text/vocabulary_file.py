"""Loading of a vocabulary file."""

import json
from pathlib import Path

from charlstm.errors import VocabularyError
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.vocabulary import Vocab

VOCAB = "vocab.json"  # in the folders of encoded texts and of models


def load_vocab(path: Path) -> Vocab:
    """Load a vocabulary from a file: characters, or all bytes if the file's `unit` is `byte`.

    Raises:
        VocabularyError: the file is missing, not JSON, or not a list of distinct single characters.
    """
    try:
        document = json.loads(path.read_bytes())
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
