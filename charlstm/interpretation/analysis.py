"""The analysis of a model's cells: what single cells track, found and confirmed, and what they do.

After Karpathy, Johnson & Li (2015), "Visualizing and Understanding Recurrent Networks".
Shapes: U cells of all layers, C cells of those, N characters.
"""

from collections import defaultdict
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.interpretation.document import Cell, CellsDocument, Context, Gate, Tracked
from charlstm.interpretation.labels import Floats, Label, labels_of
from charlstm.interpretation.reading import (
    GATES,
    MIN_CHARS,
    ROW_LEN,
    WARM_UP,
    Clamp,
    Halves,
    clamped_texts,
    halves_of,
    nats_lost,
    readable,
    record,
)
from charlstm.interpretation.tracking_cells import NUM_UNTRAINED, Search, ranks_of_label, untrained_effects, varying
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

MAX_CLAMPED_CHARS = 5_000  # on which clamped cells are scored
BLOCK_LEN = 250  # characters, from whose means comes the standard error
SCREENED_CHARS, SCREENED_WARM_UP = 180, 40  # on which all cells are clamped, to choose those to report
MAX_SCREENED_MULTIPLICATIONS = 2**37  # a large model has more cells than can be tried
NUM_CANDIDATES, NUM_FOR_LOSS = 8, 4  # cells that lose most by the screening; of them, those reported
CLAMPED_QUANTILES = (0.005, 0.995)  # of a cell's states: what it is clamped to while the model writes
PROMPT_LEN = 200  # characters
MAX_HALF_LIFE = 1e6  # characters; beyond, fp32 does not tell a forget gate from 1


def analyse_cells(model: CharLSTM, vocab: Vocab, ids: Ids) -> CellsDocument:
    """What single cells of `model` track in a text that it was not trained on.

    Two halves of at most 50,000 characters are read, less if the model is large. A text that is too short, or in which
    no label varies, gives a document without cells, and with the reason.
    """

    def nothing(reason: str) -> CellsDocument:
        num_cells = model.shape.num_layers * model.shape.hidden_size
        return CellsDocument(schema_version=1, reason=reason, num_cells=num_cells)

    if vocab.unit == "byte":
        return nothing("labels are of characters, and this is a model of bytes")
    halves = halves_of(ids, model)
    if halves is None:
        return nothing(f"the text has {len(ids):,} characters, and {MIN_CHARS:,} are the least")
    labels = varying(labels_of(halves.ids, vocab), halves)
    if not labels:
        return nothing("no label varies enough in both halves of the text")
    # Many small products follow one another: threads would mostly wait for each other, for minutes where they share
    # cores with other programs. One alone also gives the same numbers on any number of cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _Analysis(readable(model), vocab, halves, labels).document()
    finally:
        torch.set_num_threads(num_threads)


class _Analysis:
    """A `readable` model, and what it did in a text of which `labels` vary. Cells have numbers, layer by layer."""

    def __init__(self, model: CharLSTM, vocab: Vocab, halves: Halves, labels: list[Label]) -> None:
        self._model, self._vocab, self._halves, self._labels = model, vocab, halves, labels
        self._recording = record(model, torch.cat([halves.rows(half, halves.num_chars, ROW_LEN) for half in (0, 1)]))
        self._cells_UN = self._recording.cells_UN

    def document(self) -> CellsDocument:
        """Cells that are confirmed for a label, the clearest first; then others without which most is lost."""
        model, halves, hidden_size = self._model, self._halves, self._model.shape.hidden_size
        untrained_MK = untrained_effects(model.shape, halves, self._labels, model.head.weight.device)
        search = Search(self._cells_UN, halves, self._labels, untrained_MK, hidden_size)
        tested = search.by_label()
        by_cell: dict[int, list[Tracked]] = defaultdict(list)
        confirmed = [one for one in tested if one.is_confirmed]
        for one in sorted(confirmed, key=lambda one: abs(one.effect_again) - one.effect_untrained, reverse=True):
            by_cell[(one.layer - 1) * hidden_size + one.unit].append(one)
        num_confirmed = len(by_cell)

        candidates = [cell for cell in self._screened() if cell not in by_cell][:NUM_CANDIDATES]
        cells, num_clamped = [*by_cell, *candidates], min(MAX_CLAMPED_CHARS, halves.num_chars)
        rows_BT = halves.rows(1, num_clamped, ROW_LEN, with_targets=True)
        lost_CN = nats_lost(model, rows_BT, self._at_means(cells), WARM_UP)
        most = num_confirmed + np.argsort(-lost_CN[num_confirmed:].mean(1), kind="stable")[:NUM_FOR_LOSS]
        others = search.by_cell([cells[index] for index in most])
        # Only the best cell of a label is a candidate: these were chosen otherwise, and not tested beside all labels.
        pairs = [*by_cell.values(), *([one.model_copy(update={"is_confirmed": False})] for one in others)]
        kept = [*range(num_confirmed), *most.tolist()]
        cells = [cells[index] for index in kept]

        part = halves.part(0)
        prompt = part[: 1 + max(self._line_ends(part), default=len(part))][-PROMPT_LEN:]
        clamps = [self._clamp(cell, self._quantile(cell, share)) for share in CLAMPED_QUANTILES for cell in cells]
        plain, *texts = clamped_texts(model, self._vocab, prompt, [None, *clamps])
        written = list(zip(clamps, texts, strict=True))  # of all cells very low, then of all very high
        return CellsDocument(
            schema_version=1,
            reason=None,
            num_cells=len(self._cells_UN),
            num_chars=halves.num_chars,
            num_untrained=NUM_UNTRAINED,
            num_clamped_chars=num_clamped,
            tested=tested,
            cells=[
                self._cell(
                    cells[index],
                    pairs[index],
                    lost_CN[row],
                    reported_for="label" if row < num_confirmed else "loss",
                    low=written[index],
                    high=written[index + len(cells)],
                )
                for index, row in enumerate(kept)
            ],
            prompt=self._text(prompt),
            plain=plain,
        )

    def _screened(self) -> list[int]:
        """The cells, those first whose clamping loses most on a little of the first half.

        Of a large model, only the cells whose states vary most are tried.
        """
        num_steps = SCREENED_CHARS + SCREENED_WARM_UP
        num_tried = max(NUM_CANDIDATES, MAX_SCREENED_MULTIPLICATIONS // (num_steps * self._model.shape.num_parameters))
        deviations_U = self._cells_UN.std(1, dtype=np.float32)
        tried = np.argsort(-deviations_U, kind="stable")[:num_tried].tolist()
        ids_1T = torch.from_numpy(self._halves.part(0)[: num_steps + 1].astype(np.int64))[None]
        lost_CN = nats_lost(self._model, ids_1T, self._at_means(tried), SCREENED_WARM_UP)
        return [tried[index] for index in np.argsort(-lost_CN.mean(1), kind="stable")]

    def _at_means(self, cells: list[int]) -> list[Clamp]:
        """Clamps of cells to their means on the first half."""
        first_UN = self._cells_UN[:, : self._halves.num_chars]
        return [self._clamp(cell, float(first_UN[cell].mean(dtype=np.float64))) for cell in cells]

    def _clamp(self, cell: int, value: float) -> Clamp:
        return Clamp(*divmod(cell, self._model.shape.hidden_size), value)

    def _quantile(self, cell: int, share: float) -> float:
        return float(np.quantile(self._cells_UN[cell].astype(np.float64), share))

    def _line_ends(self, part: Ids) -> NDArray[np.intp]:
        """The indices of the line breaks."""
        return np.flatnonzero(part == self._vocab.characters.find("\n"))

    def _text(self, ids: Ids) -> str:
        return self._vocab.decode(ids.tolist())

    def _cell(
        self,
        cell: int,
        pairs: list[Tracked],
        lost_N: Floats,
        *,
        reported_for: Literal["label", "loss"],
        low: tuple[Clamp, str],
        high: tuple[Clamp, str],
    ) -> Cell:
        """The report on one cell. `pairs` are its labels, the clearest first; low and high: a clamp and its text."""
        recording, part, cell_N = self._recording, self._halves.part(1), self._cells_UN[cell, self._halves.num_chars :]
        (label,) = self._halves.labels([one for one in self._labels if one.name == pairs[0].label], 1)
        start = excerpt_start(label, self._line_ends(part))
        shown = slice(start, start + EXCERPT_LEN)
        gates = {
            name: Gate(below_low=recording.low_GU[gate, cell], above_high=recording.high_GU[gate, cell])
            for gate, name in enumerate(GATES)
        }
        half_life = np.log(0.5) / min(recording.log_forget_U[cell], -np.finfo(np.float64).tiny)
        blocks = lost_N.reshape(-1, BLOCK_LEN).mean(1)
        values_N = label.values_N[: len(lost_N)]
        is_there_N = values_N if label.is_yes_or_no else values_N > np.median(values_N)
        where, elsewhere = (lost_N[at_N].mean() if at_N.any() else None for at_N in (is_there_N, ~is_there_N))
        return Cell(
            layer=pairs[0].layer,
            unit=pairs[0].unit,
            tracked=pairs,
            reported_for=reported_for,
            half_life=half_life if half_life <= MAX_HALF_LIFE else None,
            **gates,
            nats_lost=lost_N.mean(),
            nats_lost_error=blocks.std(ddof=1) / len(blocks) ** 0.5,
            nats_lost_where=where,
            nats_lost_elsewhere=elsewhere,
            excerpt=self._text(part[shown]),
            levels=levels(cell_N, shown),
            highest=self._contexts(part, cell_N, extremes(cell_N, highest=True)),
            lowest=self._contexts(part, cell_N, extremes(cell_N, highest=False)),
            held_high=high[1],
            high=high[0].value,
            held_low=low[1],
            low=low[0].value,
        )

    def _contexts(self, part: Ids, cell_N: NDArray[np.float16], places: list[int]) -> list[Context]:
        return [
            Context(
                before=self._text(part[max(0, place - BEFORE) : place]),
                character=self._text(part[place : place + 1]),
                after=self._text(part[place + 1 : place + 1 + AFTER]),
                state=float(cell_N[place]),
            )
            for place in places
        ]


# A text beside what a cell did in it: an excerpt with the cell's states, and the places where they are extreme.
#
# States are c, not tanh(c): a counter may count on where tanh has long been 1.

EXCERPT_LEN = 1_000  # characters
NUM_CONTEXTS = 4  # at either end
BEFORE, AFTER = 48, 12  # characters of a context
APART = 200  # characters between two contexts, at least
FULL = 100  # the level of an extreme state


def excerpt_start(label: Label, line_ends: NDArray[np.intp]) -> int:
    """The start of an excerpt that shows a label's values: the choice knows nothing of any cell.

    It is the first line whose EXCERPT_LEN characters have at least half of the variance of the most varied excerpt's.
    """
    ranks_N = ranks_of_label(label)
    sums, squares = (np.concatenate(([0.0], np.cumsum(ranks_N**power))) for power in (1, 2))
    starts = line_ends[line_ends < len(ranks_N) - EXCERPT_LEN] + 1
    starts = starts if len(starts) else np.arange(0, len(ranks_N) - EXCERPT_LEN + 1, EXCERPT_LEN // 4)
    means, mean_squares = ((one[starts + EXCERPT_LEN] - one[starts]) / EXCERPT_LEN for one in (sums, squares))
    variances = mean_squares - means**2
    return int(starts[np.argmax(variances >= variances.max() / 2)])


def levels(cell_N: NDArray[np.float16], shown: slice) -> list[int]:
    """Cell states at some characters as whole numbers: 0 is the median of all, ±FULL or beyond is FULL.

    FULL is as far from the median as the farther one of the 1st and the 99th percentile.
    """
    states_N = cell_N.astype(np.float32)
    low, median, high = np.quantile(states_N, (0.01, 0.5, 0.99))
    scale = max(high - median, median - low, np.finfo(np.float32).tiny)
    return [int(one) for one in np.rint((states_N[shown] - median) / scale * FULL).clip(-FULL, FULL)]


def extremes(cell_N: NDArray[np.float16], *, highest: bool) -> list[int]:
    """The places of the NUM_CONTEXTS highest or lowest states, the utmost first; at least APART from each other."""
    places: list[int] = []
    for place in np.argsort(-cell_N if highest else cell_N, kind="stable").tolist():
        if all(abs(place - other) >= APART for other in places):
            places.append(place)
        if len(places) == NUM_CONTEXTS:
            break
    return places
