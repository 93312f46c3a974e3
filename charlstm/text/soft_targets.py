"""A text with the distribution of each of its characters: what teachers write for a student to learn from.

Where a corpus says which character came, a distribution says how likely each one was ("soft targets", Hinton et al.
2015). It is kept as one byte for each character of the alphabet: its negative log-probability in steps of 1/16 nat, up
to 15.9 nats. So it is off by at most 1/32 nat, as often up as down.
A folder of such texts has one folder for each part. Shapes: N characters, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import EncodedError, ParamsError, TrainingError
from charlstm.files.checksums import SUMS, verify
from charlstm.files.documents import read_json
from charlstm.text.encoded import load_ids
from charlstm.text.vocabulary import VOCAB, Ids, Vocab, load_vocab

STEPS_PER_NAT: Final = 16
IDS, DISTRIBUTIONS, TEACHERS = "ids.npy", "distributions.npy", "teachers.json"
FILES = (IDS, DISTRIBUTIONS, TEACHERS, VOCAB)
PROBABILITIES: Final = np.exp(-np.arange(256) / STEPS_PER_NAT).astype(np.float32)  # of each byte, up to a factor


class SoftTargets:
    """Parts on the disk, one after the other. `ids` (N) are of all of them."""

    def __init__(self, ids: Sequence[Ids], quantized: Sequence[NDArray[np.uint8]]) -> None:
        self.ids: Ids = np.concatenate(ids)
        self._quantized, self._ends = quantized, np.cumsum([len(part) for part in ids])

    def quantized_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The quantized distributions (..., V), uint8, from which the characters at `positions` were drawn."""
        found = np.empty((*positions.shape, self._quantized[0].shape[1]), np.uint8)
        parts = np.searchsorted(self._ends, positions, side="right")
        for number in np.unique(parts):
            is_there = parts == number
            quantized_NV = self._quantized[number]
            found[is_there] = quantized_NV[positions[is_there] - (self._ends[number] - len(quantized_NV))]
        return found


def quantize_log_probabilities(log_probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The nearest bytes of natural logarithms of probabilities, of any shape; -inf has the largest."""
    quantized: NDArray[np.uint8] = np.minimum(np.rint(log_probabilities * -STEPS_PER_NAT), 255).astype(np.uint8)
    return quantized


def load_soft_targets(folder: Path, vocab: Vocab, numbers: Sequence[int] = ()) -> SoftTargets:
    """All parts in `folder`, by name. Distributions are read where they lie.

    `numbers` are the parts that must be there, and no others, so that a student learns from what its parameters say; if
    there are none, any will do.

    Raises:
        EncodedError: there is none, or not those; one is damaged, or has another alphabet than `vocab`; or they are of
            different teachers.
        ChecksumError: a file is not the one that was written.
    """
    parts = sorted(sums.parent for sums in folder.glob(f"*/{SUMS}"))
    if not parts:
        raise EncodedError(f"{folder}: expected the parts of a text that teachers wrote; `dvc repro` makes them")
    if numbers and (differing := {part.name for part in parts} ^ {str(number) for number in numbers}):
        raise EncodedError(
            f"{folder}: expected the parts of teachers.parts: part {', '.join(sorted(differing))} is missing (`dvc "
            "repro` makes it), or is not among them (remove it, or add it there)"
        )
    for part in parts:
        verify(part / SUMS, FILES)
        if load_vocab(part / VOCAB) != vocab:
            raise EncodedError(f"{part}: its alphabet is not that of the text; `dvc repro` writes it anew")
    if any(read_json(part / TEACHERS) != read_json(parts[0] / TEACHERS) for part in parts):
        raise EncodedError(f"{folder}: its parts are of different teachers; remove those that are out of date")
    ids = [load_ids(part / IDS, len(vocab)) for part in parts]
    return SoftTargets(
        ids,
        [_load_quantized(part / DISTRIBUTIONS, (len(one), len(vocab))) for part, one in zip(parts, ids, strict=True)],
    )


def check_soft_targets(num_ids: int, num_soft_rows: int, context_len: int) -> None:
    """Check that the teachers' text is long enough for a step.

    Raises:
        TrainingError: it is not.
    """
    if num_ids - 1 < num_soft_rows * context_len:
        raise TrainingError(
            f"the teachers' text has {num_ids} characters, too few for one step of train.distillation.rows "
            f"{num_soft_rows} x train.context_len {context_len} = {num_soft_rows * context_len}: raise "
            "teachers.part_chars"
        )


def check_prompt_chars(prompt_chars: int, num_train: int) -> None:
    """Check that a training part of `num_train` characters has pieces that teachers can read before they write.

    Raises:
        ParamsError: it has not.
    """
    if prompt_chars >= num_train:
        raise ParamsError(
            f"teachers.prompt_chars: expected less than the {num_train} characters of the training part, "
            f"got {prompt_chars}"
        )


def _load_quantized(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        quantized_NV: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EncodedError(f"{path}: cannot read distributions: {error}") from None
    if quantized_NV.dtype != np.uint8 or quantized_NV.shape != shape:
        raise EncodedError(f"{path}: expected uint8 {shape}, found {quantized_NV.dtype} {quantized_NV.shape}")
    return quantized_NV
