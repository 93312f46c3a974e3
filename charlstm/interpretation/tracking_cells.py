"""The cell that tracks a label best: found on one half of a text, confirmed on the other.

On the first half the cell with the largest effect is chosen for each label. On the second half that one cell is tested,
in two ways, and is confirmed if it passes both:

1. Against the same label shifted along the text, round from the end to the beginning. Neighboring characters are alike,
   so that a label whose characters were shuffled one by one would make anything significant; a shifted one is as alike
   to itself as before, and only its relation to the cell is lost.
2. Against untrained models of the same shape, in which the best cell is searched in the same way. A fresh LSTM reads
   its input, too. This test says whether training has made a cell for the label.

Both have one p-value for each label that holds for all labels together (max-T, Westfall & Young 1993).
Shapes: U cells, K labels, N characters, S shifts, M models, P pairs of a cell and a label.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.interpretation.document import Tracked
from charlstm.interpretation.labels import Floats, Label
from charlstm.interpretation.reading import Halves, record
from charlstm.model.char_lstm import CharLSTM, initial_weights
from charlstm.model.shape import ModelShape
from charlstm.seeds import torch_generator

MIN_SHIFT = 500  # characters
SIGNIFICANT = 0.05
SMALLEST_DEVIATION = 1e-6  # where all are the same

# How strongly cells go with labels: rank correlations, which ask for no unit and no shape of the relation.
#
# For a yes-or-no label it is 2 AUC - 1 (the rank-biserial correlation, Cureton 1956): how much oftener the cell is
# higher where the label holds than lower. For a number it is Spearman's. Both are from -1 to 1, and 0 where nothing is
# related.

NUM_STATES = 2**14  # that are told apart between the lowest and the highest of a cell
MIN_FALLS = 5  # from yes to no, or to a smaller number


def varies(label: Label) -> bool:
    """Whether a label falls often enough for anything to be said of it."""
    return int((np.diff(label.values_N.astype(np.int64)) < 0).sum()) >= MIN_FALLS


def effects(cells_UN: NDArray[np.float16], labels: Sequence[Label]) -> Floats:
    """The effects (U, K) of labels that vary."""
    weights_KN = np.stack([_weights(label) for label in labels])
    are_flags_K = np.array([label.is_yes_or_no for label in labels])
    found_UK = []
    for ranks_N in map(ranks_of, cells_UN):
        found_UK.append(weights_KN @ ranks_N / np.where(are_flags_K, 1.0, _length(ranks_N)))
    return np.stack(found_UK)


def shifted_effects(cell_N: NDArray[np.float16], label: Label) -> Floats:
    """The effects (N) of one cell with the label shifted by 0, 1, ... characters, round from the end to the start."""
    ranks_N = ranks_of(cell_N)
    spectrum = np.fft.rfft(ranks_N) * np.conj(np.fft.rfft(_weights(label)))
    return np.fft.irfft(spectrum, len(cell_N)) / (1.0 if label.is_yes_or_no else _length(ranks_N))


def ranks_of(cell_N: NDArray[np.float16]) -> Floats:
    """Ranks of cell states, mean 0; nearly equal ones share a rank. All 0 for a cell that never moves."""
    states_N = cell_N.astype(np.float32)
    low, high = states_N.min(), states_N.max()
    scale = (NUM_STATES - 1) / ((high - low) or 1)
    return _ranks(((states_N - low) * scale).astype(np.int64), NUM_STATES)


def ranks_of_label(label: Label) -> Floats:
    """Ranks (N) of a label's values, mean 0 and length 1; equal values share a rank."""
    _, codes_N = np.unique(label.values_N, return_inverse=True)
    ranks_N = _ranks(codes_N, int(codes_N.max()) + 1)
    return ranks_N / _length(ranks_N)


def _ranks(codes_N: NDArray[np.integer], num_codes: int) -> Floats:
    counts = np.bincount(codes_N, minlength=num_codes)
    ranks_N: Floats = (np.cumsum(counts) - counts / 2)[codes_N]
    ranks_N -= ranks_N.mean()
    return ranks_N


def _length(ranks_N: Floats) -> float:
    """The length of ranks that are no zeros; ties make it shorter."""
    return float(np.linalg.norm(ranks_N)) or 1.0


def _weights(label: Label) -> Floats:
    """The weights that turn ranks (N), multiplied with them, into the effect; for a number, of ranks of length 1."""
    if not label.is_yes_or_no:
        return ranks_of_label(label)
    num_chars = len(label.values_N)
    share = label.values_N.mean()
    weights_N: Floats = np.where(label.values_N, 1 / share, -1 / (1 - share)) * (2 / num_chars**2)
    return weights_N


# What the cells of untrained models go with: the line above which a trained one has learned something.
#
# Any LSTM keeps a trace of its last few characters, so that some cell of a fresh one goes with capitals or word starts.

NUM_UNTRAINED = 19  # with the model itself 20, each of which is the first by chance in 5 % of cases
MAX_CHARS = 4_000  # of each half, on which models are compared
ROW_LEN = 250  # divides the length of a half


def varying(labels: list[Label], halves: Halves) -> list[Label]:
    """The labels that vary on both halves, and on what untrained models read of them."""
    num_chars = min(MAX_CHARS, halves.num_chars)
    parts = [halves.labels(labels, half, num_chars) for half in (0, 1)]
    return [label for label, *cut in zip(labels, *parts, strict=True) if all(map(varies, cut))]


def untrained_effects(shape: ModelShape, halves: Halves, labels: list[Label], device: torch.device) -> Floats:
    """The effects (M, K) that `effects_by_label` finds in NUM_UNTRAINED models of that shape, for each label.

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
    num_chars = min(MAX_CHARS, halves.num_chars)
    cells_UN = record(model, torch.cat([halves.rows(half, num_chars, ROW_LEN) for half in (0, 1)])).cells_UN
    found_UK = effects(cells_UN[:, :num_chars], halves.labels(labels, 0, num_chars))
    again_UK = effects(cells_UN[:, num_chars:], halves.labels(labels, 1, num_chars))
    return _of_best_cells(found_UK, again_UK)


def _of_best_cells(found_UK: Floats, again_UK: Floats) -> Floats:
    """For each label (K), how large the effect that was the largest of all cells turns out again, in its direction."""
    best_1K = np.abs(found_UK).argmax(0)[None]
    effects_K: Floats = np.take_along_axis(again_UK * np.sign(found_UK), best_1K, 0)[0]
    return effects_K


# The search and both tests.


class Search:
    """The effects of all cells on all labels that vary, on both halves."""

    def __init__(
        self, cells_UN: NDArray[np.float16], halves: Halves, labels: list[Label], untrained_MK: Floats, hidden_size: int
    ) -> None:
        size, short = halves.num_chars, min(MAX_CHARS, halves.num_chars)
        self._again_UN, self._untrained_MK, self._hidden_size = cells_UN[:, size:], untrained_MK, hidden_size
        self._labels = halves.labels(labels, 1)
        self._found_UK = effects(cells_UN[:, :size], halves.labels(labels, 0))
        self._again_UK = effects(self._again_UN, self._labels)
        self._found_short_UK = effects(cells_UN[:, :short], halves.labels(labels, 0, short))
        self._again_short_UK = effects(self._again_UN[:, :short], halves.labels(labels, 1, short))

    def by_label(self) -> list[Tracked]:
        """For each label the cell with the largest effect on the first half."""
        compared_K = _of_best_cells(self._found_short_UK, self._again_short_UK)
        return self._tested(np.abs(self._found_UK).argmax(0), np.arange(len(self._labels)), compared_K)

    def by_cell(self, cells: list[int]) -> list[Tracked]:
        """For each of these cells the label on which it has the largest effect on the first half."""
        cells_P = np.array(cells, np.intp)
        labels_P = np.abs(self._found_UK[cells_P]).argmax(1)
        compared_P = self._again_short_UK[cells_P, labels_P] * np.sign(self._found_UK[cells_P, labels_P])
        return self._tested(cells_P, labels_P, compared_P)

    def _tested(self, cells_P: NDArray[np.intp], labels_P: NDArray[np.intp], compared_P: Floats) -> list[Tracked]:
        """`compared_P` is what stands beside the effects of untrained models."""
        if len(cells_P) == 0:
            return []
        pairs = list(zip(cells_P.tolist(), labels_P.tolist(), strict=True))
        shifted_PN = np.stack([shifted_effects(self._again_UN[u], self._labels[k]) for u, k in pairs])
        p_shifted_P = p_beyond_shifted(shifted_PN)
        p_untrained_P = p_beyond_untrained(compared_P, labels_P, self._untrained_MK)
        tested = []
        for (u, k), p_shifted, p_untrained in zip(pairs, p_shifted_P, p_untrained_P, strict=True):
            label, found, again = self._labels[k], self._found_UK[u, k], self._again_UK[u, k]
            tested.append(
                Tracked(
                    label=label.name,
                    meaning=label.meaning,
                    is_yes_or_no=label.is_yes_or_no,
                    layer=u // self._hidden_size + 1,
                    unit=u % self._hidden_size,
                    effect_found=found,
                    effect_again=again,
                    effect_untrained=self._untrained_MK[:, k].mean(),
                    p_shifted=p_shifted,
                    p_untrained=p_untrained,
                    is_confirmed=bool(found * again > 0 and max(p_shifted, p_untrained) <= SIGNIFICANT),
                )
            )
        return tested


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
