"""The cell that tracks a label best: found on one half of a text, confirmed on the other.

On the first half the cell with the largest effect is chosen for each label. On the second half that one cell is tested,
in two ways, and is confirmed if it passes both:

1. Against the same label shifted along the text, round from the end to the beginning. Neighboring characters are alike,
   so that a label whose characters were shuffled one by one would make anything significant; a shifted one is as alike
   to itself as before, and only its relation to the cell is lost.
2. Against untrained models of the same shape, in which the best cell is searched in the same way. A fresh LSTM reads
   its input, too. This test says whether training has made a cell for the label.

Both have one p-value for each label that holds for all labels together (max-T, Westfall & Young 1993).
Shapes: U cells, K labels, N characters, S shifts.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.interpretation.labels import Floats, Label, best_cells, effects, shifted_effects, varies
from charlstm.interpretation.recording import Halves, record_cells
from charlstm.model.char_lstm import CharLSTM, ModelShape, initial_weights
from charlstm.seeds import torch_generator

MIN_SHIFT = 500  # characters
SIGNIFICANT = 0.05


class Tracking(NamedTuple):
    """How one cell goes with one label."""

    label: str
    meaning: str
    cell: int
    """Its index among all cells, layer by layer."""
    found: float
    """The effect on the first half ..."""
    again: float
    """... and on the second one."""
    p_shifted: float
    untrained: float
    """The mean effect of the best cells of untrained models."""
    p_untrained: float

    @property
    def is_confirmed(self) -> bool:
        """Whether it passes both tests, in the direction in which it was found."""
        is_same_way = self.found * self.again > 0
        return is_same_way and self.p_shifted <= SIGNIFICANT and self.p_untrained <= SIGNIFICANT


class Search:
    """The effects of all cells on all labels that vary, on both halves."""

    def __init__(
        self, cells_UN: NDArray[np.float16], halves: Halves, labels: list[Label], untrained_MK: Floats
    ) -> None:
        size, short = halves.num_chars, num_compared(halves)
        self._again_UN = cells_UN[:, size:]
        self._labels = halves.labels(labels, 1)
        self._untrained_MK = untrained_MK
        self._found_UK = effects(cells_UN[:, :size], halves.labels(labels, 0))
        self._again_UK = effects(self._again_UN, self._labels)
        self._found_short_UK = effects(cells_UN[:, :short], halves.labels(labels, 0, short))
        self._again_short_UK = effects(self._again_UN[:, :short], halves.labels(labels, 1, short))

    def by_label(self) -> list[Tracking]:
        """For each label the cell with the largest effect on the first half."""
        compared_K = confirmed_effects(self._found_short_UK, self._again_short_UK)
        return self._tested(best_cells(self._found_UK), np.arange(len(self._labels)), compared_K)

    def by_cell(self, cells: list[int]) -> list[Tracking]:
        """For each of these cells the label on which it has the largest effect on the first half."""
        cells_P = np.array(cells, np.intp)
        labels_P = np.abs(self._found_UK[cells_P]).argmax(1)
        compared_P = self._again_short_UK[cells_P, labels_P] * np.sign(self._found_UK[cells_P, labels_P])
        return self._tested(cells_P, labels_P, compared_P)

    def _tested(self, cells_P: NDArray[np.intp], labels_P: NDArray[np.intp], compared_P: Floats) -> list[Tracking]:
        """P pairs of a cell and a label; `compared_P` is what stands beside the effects of untrained models."""
        if len(cells_P) == 0:
            return []
        shifted_PN = np.stack(
            [shifted_effects(self._again_UN[u], self._labels[k]) for u, k in zip(cells_P, labels_P, strict=True)]
        )
        p_shifted_P = p_beyond_shifted(shifted_PN)
        p_untrained_P = p_beyond_untrained(compared_P, labels_P, self._untrained_MK)
        return [
            Tracking(
                label=self._labels[k].name,
                meaning=self._labels[k].meaning,
                cell=int(u),
                found=float(self._found_UK[u, k]),
                again=float(self._again_UK[u, k]),
                p_shifted=float(p_shifted_P[index]),
                untrained=float(self._untrained_MK[:, k].mean()),
                p_untrained=float(p_untrained_P[index]),
            )
            for index, (u, k) in enumerate(zip(cells_P, labels_P, strict=True))
        ]


def p_beyond_shifted(shifted_PN: Floats) -> Floats:
    """The probability (P) that a shift makes an effect of any of the pairs as large as this one is without a shift.

    Each row has a pair's effect for every shift, none at first. Effects are measured in their standard deviation over
    all shifts of at least MIN_SHIFT characters.
    """
    shifted_PS = np.abs(shifted_PN[:, MIN_SHIFT : shifted_PN.shape[1] - MIN_SHIFT + 1])
    deviations_P1 = np.sqrt((shifted_PS**2).mean(1, keepdims=True)) + SMALLEST_DEVIATION
    largest_S = (shifted_PS / deviations_P1).max(0)
    as_large_P = (largest_S >= np.abs(shifted_PN[:, :1]) / deviations_P1).sum(1)
    p_P: Floats = (1 + as_large_P) / (1 + len(largest_S))
    return p_P


def varying(labels: list[Label], halves: Halves) -> list[Label]:
    """The labels that vary on both halves, and on what untrained models read of them."""
    num_chars = num_compared(halves)
    parts = [halves.labels(labels, half, num_chars) for half in (0, 1)]
    return [label for label, *cut in zip(labels, *parts, strict=True) if all(map(varies, cut))]


# What the cells of untrained models go with: the line above which a trained one has learned something.
#
# Any LSTM keeps a trace of its last few characters, so that some cell of a fresh one goes with capitals or word starts.
# Shapes: M models, K labels, U cells, N characters.

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
