"""A planted cell is found first and confirmed; random models show no more than chance allows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import HIDDEN, LAYERS, PLANTED, STEP, plant_line_counter, random_model

from charlstm.errors import CharlstmError
from charlstm.evaluation.documents import write_document
from charlstm.interpretation import reading, tracking_cells
from charlstm.interpretation.analysis import analyse_cells
from charlstm.interpretation.document import CellsDocument, cells_table, read_cells
from charlstm.interpretation.labels import labels_of
from charlstm.interpretation.reading import MIN_CHARS, Halves, halves_of
from charlstm.interpretation.tracking_cells import (
    NUM_UNTRAINED,
    SIGNIFICANT,
    effects_by_label,
    p_beyond_untrained,
    varying,
)
from charlstm.text.vocabulary import Vocab

LABEL = "line position"


@pytest.fixture(scope="module")
def short_comparison() -> Iterator[pytest.MonkeyPatch]:
    """Models are compared on less text, which is quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking_cells, "MAX_CHARS", 1_000)
        patch.setattr(tracking_cells, "ROW_LEN", 100)
        yield patch


@pytest.fixture(scope="module")
def planted(text: str, short_comparison: pytest.MonkeyPatch) -> tuple[CellsDocument, Vocab]:
    vocab = Vocab.of(text)
    model = random_model(vocab, seed=1)
    plant_line_counter(model, vocab)
    return analyse_cells(model, vocab, vocab.encode(text)), vocab


def test_a_planted_cell_is_found_first_and_confirmed(planted: tuple[CellsDocument, Vocab]) -> None:
    document, _ = planted
    found = {one.label: one for one in document.tested}
    assert (found[LABEL].layer, found[LABEL].unit) == (1, PLANTED)
    assert found[LABEL].is_confirmed
    assert found[LABEL].effect_found > 0.999 and found[LABEL].effect_again > 0.999
    first = document.cells[0]
    assert (first.layer, first.unit, first.reported_for) == (1, PLANTED, "label")
    assert LABEL in [one.label for one in first.tracked]


def test_a_cell_that_counts_down_is_confirmed_too(text: str, short_comparison: pytest.MonkeyPatch) -> None:
    vocab = Vocab.of(text)
    model = random_model(vocab, seed=1)
    plant_line_counter(model, vocab, -STEP)
    found = {one.label: one for one in analyse_cells(model, vocab, vocab.encode(text)).tested}[LABEL]
    assert found.unit == PLANTED and found.is_confirmed
    assert found.effect_found < -0.999 and found.effect_again < -0.999


def test_of_a_long_text_no_more_than_is_needed_is_looked_at(
    planted: tuple[CellsDocument, Vocab], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels have a number for each character, and a validation part may have a billion."""
    vocab = planted[1]
    ids, model = vocab.encode(text), random_model(vocab, seed=1)
    monkeypatch.setattr(reading, "MAX_HALF", 2_000)
    whole = halves_of(ids, model)
    monkeypatch.setattr(reading, "LOOK_AHEAD", 500)
    cut = halves_of(ids, model)
    assert whole is not None and cut is not None
    assert len(whole.ids) == len(ids) > len(cut.ids) == 200 + 2 * 2_000 + 1 + 500
    for half in (0, 1):
        of_whole, of_cut = (one.labels(labels_of(one.ids, vocab), half) for one in (whole, cut))
        for mine, theirs in zip(of_cut, of_whole, strict=True):
            assert np.array_equal(mine.values_N, theirs.values_N), mine.name


def test_what_a_planted_cell_does(planted: tuple[CellsDocument, Vocab]) -> None:
    document, vocab = planted
    cell = document.cells[0]
    assert cell.half_life is None or cell.half_life > 1e5  # its forget gate is open, but for resets
    assert cell.forget_gate.above_high == pytest.approx(1 - cell.forget_gate.below_low, abs=1e-3)
    line_position = {one.name: one for one in labels_of(vocab.encode(cell.excerpt), vocab)}[LABEL].values_N
    is_start = line_position == 1  # whatever line the excerpt began in
    assert sum(is_start) > 3
    activations = np.array(cell.levels)
    assert (np.diff(activations)[~is_start[1:] & (line_position[1:] > 0)] >= 0).all()
    assert activations[line_position == 0].max() < activations[is_start].min() + 3
    assert [one.character for one in cell.lowest] == ["\n"] * len(cell.lowest)
    assert cell.high > STEP * 50 and cell.low == 0
    assert len(cell.held_high) == len(cell.held_low) == len(document.plain) == 240
    assert len({cell.held_high, cell.held_low, document.plain}) == 3


@pytest.mark.parametrize(
    ("num_models", "num_chars"), [(50, 500), pytest.param(300, 2_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_random_models_pass_as_often_as_claimed(
    text: str, short_comparison: pytest.MonkeyPatch, num_models: int, num_chars: int
) -> None:
    """A random model among 19 others is beyond them, with any of the labels, in 5 % of cases at most."""
    vocab = Vocab.of(text)
    halves = Halves(vocab.encode(text), num_chars)
    labels = varying(labels_of(halves.ids, vocab), halves)
    assert len(labels) > 5
    effects_MK = np.stack(
        [effects_by_label(random_model(vocab, seed, num_layers=1), halves, labels) for seed in range(num_models)]
    )
    generator, num_draws, num_passed = np.random.default_rng(1), 1_000, 0
    for _ in range(num_draws):
        ours_K, *theirs = effects_MK[generator.permutation(num_models)[: 1 + NUM_UNTRAINED]]
        p_K = p_beyond_untrained(ours_K, np.arange(len(labels)), np.stack(theirs))
        num_passed += bool((p_K <= SIGNIFICANT).any())
    assert 0.01 < num_passed / num_draws < 0.065


def test_a_random_model_has_no_confirmed_cell(text: str, short_comparison: pytest.MonkeyPatch) -> None:
    """Though its cells go with what it reads: the first test alone is passed by several."""
    vocab = Vocab.of(text)
    document = analyse_cells(random_model(vocab, seed=3), vocab, vocab.encode(text))
    assert [one for one in document.tested if one.is_confirmed] == []
    assert len([one for one in document.tested if one.p_shifted <= SIGNIFICANT]) >= 3
    assert [one.reported_for for one in document.cells] == ["loss"] * 4


def test_what_is_too_little_is_left_out_with_a_reason(text: str) -> None:
    vocab = Vocab.of(text)
    short = analyse_cells(random_model(vocab, 1), vocab, vocab.encode(text[: MIN_CHARS - 1]))
    assert short.reason == f"the text has {MIN_CHARS - 1:,} characters, and 4,201 are the least"
    same = analyse_cells(random_model(vocab, 1), vocab, vocab.encode("\n" * MIN_CHARS))
    assert same.reason == "no label varies enough in both halves of the text"
    for document in (short, same):
        assert not document.cells and not document.tested and len(cells_table(document)) == 0


def test_files_are_the_same_each_time_and_checked(
    planted: tuple[CellsDocument, Vocab], text: str, tmp_path: Path
) -> None:
    document, vocab = planted
    model = random_model(vocab, seed=1)
    plant_line_counter(model, vocab)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        again = analyse_cells(model, vocab, vocab.encode(text))
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    for name, one in (("one", document), ("two", again)):
        write_document(tmp_path / name, one)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_cells(tmp_path / "one") == document
    with pytest.raises(CharlstmError, match="cannot read what cells track: No such file"):
        read_cells(tmp_path / "none")


def test_the_table_has_a_row_for_each_pair(planted: tuple[CellsDocument, Vocab]) -> None:
    document, _ = planted
    table = cells_table(document)
    for_loss = [one for one in document.cells if one.reported_for == "loss"]
    num_for_loss = len(for_loss)
    assert for_loss and not any(tracked.is_confirmed for one in for_loss for tracked in one.tracked)
    assert len(table) == len(document.tested) + num_for_loss
    row = table[table["label"] == LABEL].iloc[0]
    assert (row["unit"], row["is_confirmed"]) == (PLANTED, True)
    assert row["nats_lost"] == document.cells[0].nats_lost
    assert row["forget_gate_above_high"] == document.cells[0].forget_gate.above_high


def test_a_large_model_reads_less(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = Vocab.of(text)
    ids, model = vocab.encode(text), random_model(vocab, 1)

    def num_chars() -> int:
        halves = halves_of(ids, model)
        return halves.num_chars if halves else 0

    assert num_chars() == 7_000
    monkeypatch.setattr(reading, "MAX_CELL_STATES", LAYERS * HIDDEN * 5_000)
    assert num_chars() == 2_000
    monkeypatch.setattr(reading, "MAX_MULTIPLICATIONS", 3_000 * model.shape.num_parameters)
    assert num_chars() == 2_000  # too few are worse than late
