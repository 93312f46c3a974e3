"""What is reported of a cell: its memory, its gates, what is lost without it, where it is extreme, what it writes.

Shapes: U cells of all layers, N characters, C reported cells.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.interpretation.clamping import Clamp
from charlstm.interpretation.document import Cell, Context, Gate, Tracked
from charlstm.interpretation.effects import Floats
from charlstm.interpretation.excerpts import AFTER, BEFORE, EXCERPT_LEN, Place, excerpt_start, extremes, levels
from charlstm.interpretation.halves import Halves
from charlstm.interpretation.labels import Label
from charlstm.interpretation.recording import RECORDED_GATES, Recording
from charlstm.interpretation.tracking_cells import Tracking
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

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
