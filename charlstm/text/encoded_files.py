"""The files of encoded texts: one `.npy` for each part."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import EncodedError, VocabularyError
from charlstm.files.checksums import SUMS, verify
from charlstm.files.pieces import write_pieces
from charlstm.text.encoded import CHECKED_AT_ONCE, EncodedText, separator_ids
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.text.vocabulary_file import VOCAB, load_vocab


def load_parts(
    folder: Path,
    names: Iterable[str],
    *,
    separator: str | None = None,
    expected: Vocab | None = None,
) -> tuple[Vocab, list[EncodedText]]:
    """The vocabulary and the parts with these `names` (train, val, test), from the folder that stage encode wrote.

    `expected` is the vocabulary of a model that is to read them.

    Raises:
        ChecksumError: a file is damaged or missing.
        EncodedError: as `load_ids`.
        VocabularyError: the vocabulary is damaged or not the expected one, or lacks characters of the separator.
    """
    files = [f"{name}.npy" for name in names]
    verify(folder / SUMS, [*files, VOCAB])
    vocab = load_vocab(folder / VOCAB)
    if expected is not None and vocab != expected:
        raise VocabularyError(
            f"the model and {folder} have different vocabularies; run `dvc repro`"
        )
    return vocab, [load_encoded(folder / file, vocab, separator) for file in files]


def load_encoded(path: Path, vocab: Vocab, separator: str | None = None) -> EncodedText:
    """The text that `write_ids` wrote, with `split.document_separator`.

    Raises:
        EncodedError: as `load_ids`.
        VocabularyError: the separator has characters that the vocabulary lacks.
    """
    return EncodedText(load_ids(path, len(vocab)), vocab.unit, separator_ids(separator, vocab))


def load_ids(path: Path, vocab_size: int) -> Ids:
    """Ids (N,) of unsigned dtype, memory-mapped: none is read but the first CHECKED_AT_ONCE, which are compared with
    `vocab_size`. A reader of the others checks what it reads (`check_fit`).

    Raises:
        EncodedError: missing, not a `.npy` of ids, or an id that is not below `vocab_size`.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise EncodedError(f"{path}: cannot read encoded text: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise EncodedError(
            f"{path}: expected a .npy array of ids, found something else or a cut file"
        ) from None
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind != "u" or len(ids) < 2:
        kind = (
            f"{ids.dtype} of shape {ids.shape}"
            if isinstance(ids, np.ndarray)
            else type(ids).__name__
        )
        raise EncodedError(
            f"{path}: expected at least 2 unsigned ids in one dimension, found {kind}"
        )
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


def write_ids(path: Path, pieces: Iterable[str], vocab: Vocab, num_ids: int) -> str:
    """Write the ids of all characters of `pieces`, of which there are `num_ids`; the file's SHA-256.

    Raises:
        EncodedError: there are more or fewer.
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
                f"{path}: expected {num_ids} ids, found {num_written}: the text changed meanwhile"
            )

    return write_pieces(path, npy())
