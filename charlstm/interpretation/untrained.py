"""What the cells of untrained models go with: the line above which a trained one has learned something.

Any LSTM keeps a trace of its last few characters, so that some cell of a fresh one goes with capitals or word starts.
Shapes: M models, K labels, U cells, N characters.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.interpretation.effects import Floats, best_cells, effects
from charlstm.interpretation.halves import Halves
from charlstm.interpretation.labels import Label
from charlstm.interpretation.recording import record_cells
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.initialization import initial_weights
from charlstm.seeds import torch_generator

NUM_UNTRAINED = 19  # with the model itself 20, each of which is the first by chance in 5 % of cases
MAX_CHARS = 4_000  # of each half
ROW_LEN = 250  # divides the length of a half
SMALLEST_DEVIATION = 1e-6  # where all are the same


def num_compared(halves: Halves) -> int:
    """Characters of each half on which models are compared."""
    return min(MAX_CHARS, halves.num_chars)


def untrained_effects(shape: ModelShape, halves: Halves, labels: list[Label], device: torch.device) -> Floats:
    """For each of NUM_UNTRAINED models of that shape and each label, what `confirmed_effects` has (M, K).

    Their weights are drawn as those of the shipped recipe are before training.
    """
    found = []
    for index in range(NUM_UNTRAINED):
        generator = torch_generator(0, "untrained model to compare with", index)
        model = CharLSTM(shape, "gates")
        model.load_state_dict(initial_weights(shape, "orthogonal", forget_gate_bias=1.0, generator=generator))
        found.append(effects_by_label(model.to(device).requires_grad_(False), halves, labels))
    return np.stack(found)


def effects_by_label(model: CharLSTM, halves: Halves, labels: list[Label]) -> Floats:
    """For each label (K), the effect on half 1 of the cell that has the largest on half 0, of a `readable` model.

    It counts as negative where its direction is not the same on both.
    """
    num_chars = num_compared(halves)
    rows_BT = torch.cat([halves.rows(half, num_chars, ROW_LEN) for half in (0, 1)])
    cells_UN = record_cells(model, rows_BT)
    return confirmed_effects(
        effects(cells_UN[:, :num_chars], halves.labels(labels, 0, num_chars)),
        effects(cells_UN[:, num_chars:], halves.labels(labels, 1, num_chars)),
    )


def confirmed_effects(found_UK: Floats, again_UK: Floats) -> Floats:
    """For each label (K), how large the effect that was the largest of all cells turns out again, in its direction."""
    effects_K: Floats = np.take_along_axis(again_UK * np.sign(found_UK), best_cells(found_UK)[None], 0)[0]
    return effects_K


def p_beyond_untrained(ours_P: Floats, labels_P: NDArray[np.intp], theirs_MK: Floats) -> Floats:
    """The probability (P) that an untrained model has an effect as far beyond the others' on any of the K labels.

    `ours_P` are effects on the labels with the indices `labels_P`. They are measured in standard deviations from the
    mean of untrained models, for an untrained model from the mean of the other ones.
    """
    num_models = len(theirs_MK)
    others = [np.delete(theirs_MK, index, 0) for index in range(num_models)]
    largest_M = [((one - rest.mean(0)) / _deviation(rest)).max() for one, rest in zip(theirs_MK, others, strict=True)]
    ours_1P = (ours_P - theirs_MK.mean(0)[labels_P]) / _deviation(theirs_MK)[labels_P]
    p_P: Floats = (1 + (np.array(largest_M)[:, None] >= ours_1P).sum(0)) / (1 + num_models)
    return p_P


def _deviation(effects_MK: Floats) -> Floats:
    deviation_K: Floats = effects_MK.std(0, ddof=1) + SMALLEST_DEVIATION
    return deviation_K
