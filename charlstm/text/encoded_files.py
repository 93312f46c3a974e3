"""The files of encoded texts: a `.npy` file for every part."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from charlstm.errors import EncodedError, VocabularyError
from charlstm.files.atomic import write_pieces
from charlstm.files.checksums import SUMS, verify
from charlstm.text.encoded import EncodedText, separator_ids
from charlstm.text.vocabulary import VOCAB, Ids, Vocab, load_vocab


def load_parts(
    folder: Path,
    names: Iterable[str],
    *,
    separator: str | None = None,
    expected: Vocab | None = None,
    is_verified: bool = False,
) -> tuple[Vocab, list[EncodedText]]:
    """Load the vocabulary, and the parts called `names` (train, val or test), from `folder`.

    Args:
        folder: the output folder of stage encode.
        names: the parts to load.
        separator: the text that begins a document, or None.
        expected: the vocabulary of the model that will read the parts, if there is one.
        is_verified: True if another process compares the files with their checksums.

    Raises:
        ChecksumError: a file is damaged.
        EncodedError: a part cannot be read.
        VocabularyError: the vocabulary is missing, damaged or not as expected, or lacks characters
            of the separator.
    """
    files = [f"{name}.npy" for name in names]
    if not is_verified:
        verify(folder / SUMS, [*files, VOCAB])
    vocab = load_vocab(folder / VOCAB)
    if expected is not None and vocab != expected:
        raise VocabularyError(
            f"the model and {folder} have different vocabularies; run `dvc repro`"
        )
    return vocab, [load_encoded(folder / file, vocab, separator) for file in files]


def load_encoded(path: Path, vocab: Vocab, separator: str | None = None) -> EncodedText:
    """Return the encoded text in a `.npy` file. `separator` is `split.document_separator`.

    Raises:
        EncodedError: the file cannot be read, or an id is not in the vocabulary.
        VocabularyError: the vocabulary lacks characters of the separator.
    """
    return EncodedText(load_ids(path, len(vocab)), vocab.unit, separator_ids(separator, vocab))


def load_ids(path: Path, vocab_size: int) -> Ids:
    """Return the ids (N,) in a `.npy` file as a memory-mapped array.

    Raises:
        EncodedError: the file is missing or not a `.npy` file, or an id is not below `vocab_size`.
    """
    try:
        ids: Ids = np.load(path, mmap_mode="r", allow_pickle=False)
        if (largest := int(ids.max(initial=0))) >= vocab_size:
            raise EncodedError(
                f"expected ids below {vocab_size}, the size of the vocabulary, found id {largest}"
            )
    except (OSError, ValueError, EOFError, EncodedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EncodedError(f"{path}: cannot read the encoded text: {reason}") from None
    return ids


def write_ids(path: Path, pieces: Iterable[str], vocab: Vocab, num_ids: int) -> str:
    """Write the ids of a text, given in pieces, to a `.npy` file. Return the file's SHA-256.

    `num_ids` is the number of ids, which the file's header needs in advance.

    Raises:
        EncodedError: the number of ids is not `num_ids`.
    """

    def npy() -> Iterator[bytes | memoryview]:
        header = io.BytesIO()
        description = {"descr": vocab.dtype.str, "fortran_order": False, "shape": (num_ids,)}
        np.lib.format.write_array_header_1_0(header, description)
        yield header.getvalue()

        num_written = 0
        for piece in pieces:
            ids = vocab.ids_of(piece)
            num_written += len(ids)
            yield ids.view(np.uint8).data
        if num_written != num_ids:
            raise EncodedError(
                f"{path}: expected {num_ids} ids, found {num_written}: the text changed "
                f"during encoding; run `dvc repro` again"
            )

    return write_pieces(path, npy())
