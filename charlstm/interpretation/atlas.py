"""The atlas of a model's cells: what single cells track, found and confirmed, and what they do.

After Karpathy, Johnson & Li (2015), "Visualizing and Understanding Recurrent Networks". Shapes: C cells, N characters.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from charlstm.interpretation.clamping import nats_lost
from charlstm.interpretation.document import CellsDocument
from charlstm.interpretation.effects import Floats
from charlstm.interpretation.halves import MIN_CHARS, ROW_LEN, WARM_UP, Halves, halves_of
from charlstm.interpretation.held import held_texts
from charlstm.interpretation.labels import Label, labels_of
from charlstm.interpretation.recording import record
from charlstm.interpretation.reported import Effects, Subject, reported, tracked
from charlstm.interpretation.tracking_cells import Search, Tracking, varying
from charlstm.interpretation.untrained import NUM_UNTRAINED, untrained_effects
from charlstm.interpretation.watching import readable
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

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
