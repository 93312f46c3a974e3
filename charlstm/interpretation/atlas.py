"""The atlas of a model's cells: what single cells track, found and confirmed, and what they do.

After Karpathy, Johnson & Li (2015), "Visualizing and Understanding Recurrent Networks". Shapes: C cells, N characters.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.interpretation.clamping import Clamp, held_texts, nats_lost, readable
from charlstm.interpretation.document import Cell, CellsDocument, Context, Gate, Tracked
from charlstm.interpretation.labels import (
    AFTER,
    BEFORE,
    EXCERPT_LEN,
    Floats,
    Label,
    Place,
    excerpt_start,
    extremes,
    labels_of,
    levels,
)
from charlstm.interpretation.recording import (
    MIN_CHARS,
    RECORDED_GATES,
    ROW_LEN,
    WARM_UP,
    Halves,
    Recording,
    halves_of,
    record,
)
from charlstm.interpretation.tracking_cells import NUM_UNTRAINED, Search, Tracking, untrained_effects, varying
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

# What is reported of a cell: its memory, its gates, what is lost without it, where it is extreme, what it writes.
#
# Shapes: U cells of all layers, N characters, C reported cells.

BLOCK_LEN = 250  # characters, from whose means comes the standard error
HELD_QUANTILES = (0.005, 0.995)
MAX_HALF_LIFE = 1e6  # characters; beyond, fp32 does not tell a forget gate from 1


class Subject(NamedTuple):
    """A `readable` model, and what it did in a text."""

    model: CharLSTM
    vocab: Vocab
    halves: Halves
    labels: list[Label]
    """Of all the text."""
    recording: Recording

    def clamp(self, cell: int, value: float) -> Clamp:
        """A cell by its index among all, at a value."""
        return Clamp(*divmod(cell, self.model.shape.hidden_size), value)

    def mean_clamps(self, cells: list[int]) -> list[Clamp]:
        """Cells at their means on the first half."""
        return [self.clamp(cell, float(self.half(cell, 0).mean(dtype=np.float64))) for cell in cells]

    def held_clamps(self, cells: list[int]) -> list[Clamp]:
        """Each cell very low, then each very high."""
        ends = {cell: np.quantile(self.recording.cells_UN[cell].astype(np.float64), HELD_QUANTILES) for cell in cells}
        return [self.clamp(cell, float(ends[cell][end])) for end in (0, 1) for cell in cells]

    def line_ends(self, part: Ids) -> NDArray[np.intp]:
        """The indices of its line breaks."""
        return np.flatnonzero(part == self.vocab.characters.find("\n"))

    def half(self, cell: int, half: int) -> NDArray[np.float16]:
        """The states of a cell on one half."""
        states_N: NDArray[np.float16] = self.recording.cells_UN[cell].reshape(2, -1)[half]
        return states_N


class Effects(NamedTuple):
    """What a cell does."""

    lost_N: Floats
    """Nats lost at the first N characters of the second half."""
    low: float
    high: float
    held_low: str
    held_high: str


def tracked(subject: Subject, one: Tracking) -> Tracked:
    """A tested pair as the document has it."""
    layer, unit = divmod(one.cell, subject.model.shape.hidden_size)
    return Tracked(
        label=one.label,
        meaning=one.meaning,
        is_yes_or_no=_label(subject, one).is_yes_or_no,
        layer=layer + 1,
        unit=unit,
        effect_found=rounded(one.found),
        effect_again=rounded(one.again),
        effect_untrained=rounded(one.untrained),
        p_shifted=rounded(one.p_shifted),
        p_untrained=rounded(one.p_untrained),
        is_confirmed=one.is_confirmed,
    )


def reported(subject: Subject, pairs: list[Tracking], effects: Effects, *, is_for_label: bool) -> Cell:
    """All of one cell; `pairs` are its labels, the clearest first."""
    cell, part = pairs[0].cell, subject.halves.part(1)
    (label,) = subject.halves.labels([_label(subject, pairs[0])], 1)
    start = excerpt_start(label, subject.line_ends(part))
    shown = slice(start, start + EXCERPT_LEN)
    cell_N = subject.half(cell, 1)
    first = tracked(subject, pairs[0])
    gates = {name: _gate(subject.recording, index, cell) for index, name in enumerate(RECORDED_GATES)}
    blocks = effects.lost_N.reshape(-1, BLOCK_LEN).mean(1)
    where, elsewhere = _by_label(label, effects.lost_N)
    return Cell(
        layer=first.layer,
        unit=first.unit,
        tracked=[tracked(subject, one) for one in pairs],
        reported_for="label" if is_for_label else "loss",
        half_life=_half_life(subject.recording.log_forget_U[cell]),
        **gates,
        nats_lost=rounded(effects.lost_N.mean()),
        nats_lost_error=rounded(blocks.std(ddof=1) / len(blocks) ** 0.5),
        nats_lost_where=where,
        nats_lost_elsewhere=elsewhere,
        excerpt=_text(subject, part[shown]),
        levels=levels(cell_N, shown),
        highest=[_context(subject, part, place) for place in extremes(cell_N, highest=True)],
        lowest=[_context(subject, part, place) for place in extremes(cell_N, highest=False)],
        held_high=effects.held_high,
        high=rounded(effects.high),
        held_low=effects.held_low,
        low=rounded(effects.low),
    )


def rounded(value: float) -> float:
    """Four significant digits: more would depend on the machine."""
    return float(f"{value:.4g}")


def _label(subject: Subject, pair: Tracking) -> Label:
    return next(one for one in subject.labels if one.name == pair.label)


def _gate(recording: Recording, gate: int, cell: int) -> Gate:
    low, high = recording.low_GU[gate, cell], recording.high_GU[gate, cell]
    return Gate(below_low=rounded(low), above_high=rounded(high))


def _half_life(log_forget: float) -> float | None:
    half_life = np.log(0.5) / min(log_forget, -np.finfo(np.float64).tiny)
    return rounded(half_life) if half_life <= MAX_HALF_LIFE else None


def _by_label(label: Label, lost_N: Floats) -> tuple[float | None, float | None]:
    """Means where a label holds or is above its median, and elsewhere; None where there is no such character."""
    values_N = label.values_N[: len(lost_N)]
    is_there_N = values_N if label.is_yes_or_no else values_N > np.median(values_N)
    parts = (lost_N[is_there_N], lost_N[~is_there_N])
    where, elsewhere = (rounded(part.mean()) if len(part) else None for part in parts)
    return where, elsewhere


def _context(subject: Subject, part: Ids, place: Place) -> Context:
    at = place.at
    return Context(
        before=_text(subject, part[max(0, at - BEFORE) : at]),
        character=_text(subject, part[at : at + 1]),
        after=_text(subject, part[at + 1 : at + 1 + AFTER]),
        state=rounded(place.state),
    )


def _text(subject: Subject, ids: Ids) -> str:
    return subject.vocab.decode(ids.tolist())


# The atlas.

MAX_CLAMPED_CHARS = 5_000  # on which clamped cells are scored
SCREENED_CHARS, SCREENED_WARM_UP = 180, 40  # on which all cells are clamped, to choose those to report
MAX_SCREENED_MULTIPLICATIONS = 2**37  # a large model has more cells than can be tried
NUM_CANDIDATES, NUM_FOR_LOSS = 8, 4  # cells that lose most by the screening; of them, those reported
PROMPT_LEN = 200  # characters


def atlas_of(model: CharLSTM, vocab: Vocab, ids: Ids) -> CellsDocument:
    """What single cells of `model` track in a text that it was not trained on.

    Two halves of at most 50,000 characters are read, less if the model is large. A text that is too short, or in which
    no label varies, gives a document without cells, and with the reason.
    """
    if vocab.unit == "byte":
        return _nothing(model, "labels are of characters, and this is a model of bytes")
    halves = halves_of(ids, model)
    if halves is None:
        return _nothing(model, f"the text has {len(ids):,} characters, and {MIN_CHARS:,} are the least")
    labels = varying(labels_of(halves.ids, vocab), halves)
    if not labels:
        return _nothing(model, "no label varies enough in both halves of the text")
    with _one_thread():
        return _found(model, vocab, halves, labels)


def _found(model: CharLSTM, vocab: Vocab, halves: Halves, labels: list[Label]) -> CellsDocument:
    network = readable(model)
    rows_BT = torch.cat([halves.rows(half, halves.num_chars, ROW_LEN) for half in (0, 1)])
    subject = Subject(network, vocab, halves, labels, record(network, rows_BT))
    untrained_MK = untrained_effects(model.shape, halves, labels, network.head.weight.device)
    return _document(subject, Search(subject.recording.cells_UN, halves, labels, untrained_MK))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small products follow one another: threads would mostly wait for each other, for minutes where they share
    cores with other programs. One alone also gives the same numbers on any number of cores.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _nothing(model: CharLSTM, reason: str) -> CellsDocument:
    return CellsDocument(
        schema_version=1,
        reason=reason,
        num_cells=model.shape.num_layers * model.shape.hidden_size,
        num_chars=0,
        num_untrained=0,
        num_clamped_chars=0,
        tested=[],
        cells=[],
        prompt="",
        plain="",
    )


def _document(subject: Subject, search: Search) -> CellsDocument:
    tested = search.by_label()
    by_cell: dict[int, list[Tracking]] = defaultdict(list)
    for one in sorted((one for one in tested if one.is_confirmed), key=_margin, reverse=True):
        by_cell[one.cell].append(one)
    candidates = [cell for cell in _screened(subject) if cell not in by_cell][:NUM_CANDIDATES]
    num_confirmed, all_cells = len(by_cell), [*by_cell, *candidates]
    num_clamped = min(MAX_CLAMPED_CHARS, subject.halves.num_chars)
    rows_BT = subject.halves.rows(1, num_clamped, ROW_LEN, with_targets=True)
    lost_CN = nats_lost(subject.model, rows_BT, subject.mean_clamps(all_cells), WARM_UP)
    most = num_confirmed + np.argsort(-lost_CN[num_confirmed:].mean(1), kind="stable")[:NUM_FOR_LOSS]
    kept = [*range(num_confirmed), *most.tolist()]
    pairs = [*by_cell.values(), *([one] for one in search.by_cell([all_cells[index] for index in most]))]
    cells = [all_cells[index] for index in kept]
    prompt, plain, effects = _effects(subject, cells, [lost_CN[index] for index in kept])
    return CellsDocument(
        schema_version=1,
        reason=None,
        num_cells=len(subject.recording.cells_UN),
        num_chars=subject.halves.num_chars,
        num_untrained=NUM_UNTRAINED,
        num_clamped_chars=num_clamped,
        tested=[tracked(subject, one) for one in tested],
        cells=[
            reported(subject, of_one, effect, is_for_label=index < num_confirmed)
            for index, (of_one, effect) in enumerate(zip(pairs, effects, strict=True))
        ],
        prompt=prompt,
        plain=plain,
    )


def _margin(one: Tracking) -> float:
    return abs(one.again) - one.untrained


def _screened(subject: Subject) -> list[int]:
    """The cells, those first whose clamping loses most on a little of the first half.

    Of a large model, only the cells whose states vary most are tried.
    """
    cells_UN, num_steps = subject.recording.cells_UN, SCREENED_CHARS + SCREENED_WARM_UP
    num_tried = max(NUM_CANDIDATES, MAX_SCREENED_MULTIPLICATIONS // (num_steps * subject.model.num_parameters()))
    deviations_U = cells_UN.std(1, dtype=np.float32)
    tried = np.argsort(-deviations_U, kind="stable")[:num_tried].tolist()
    ids_1T = torch.from_numpy(subject.halves.part(0)[: num_steps + 1].astype(np.int64))[None]
    lost_CN = nats_lost(subject.model, ids_1T, subject.mean_clamps(tried), SCREENED_WARM_UP)
    return [tried[index] for index in np.argsort(-lost_CN.mean(1), kind="stable")]


def _effects(subject: Subject, cells: list[int], lost_CN: list[Floats]) -> tuple[str, str, list[Effects]]:
    """The prompt, the text that no cell is held in, and what each cell does."""
    before = subject.halves.part(0)
    prompt = before[: 1 + max(subject.line_ends(before), default=len(before))][-PROMPT_LEN:]
    clamps = subject.held_clamps(cells)
    plain, *texts = held_texts(subject.model, subject.vocab, prompt, clamps)
    size = len(cells)
    effects = [
        Effects(lost_N, low.value, high.value, held_low, held_high)
        for lost_N, low, high, held_low, held_high in zip(
            lost_CN, clamps[:size], clamps[size:], texts[:size], texts[size:], strict=True
        )
    ]
    return subject.vocab.decode(prompt.tolist()), plain, effects
