"""The arithmetic of `python -m benchmarks.scaling`."""

import math
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import scaling
from benchmarks.projects import ROOT, compose
from benchmarks.scaling import MODELS, Machine, Work, bytes_of_updates, rows_worth_it, seconds, speed_up, work_of
from charlstm.model.char_lstm import CharLSTM
from charlstm.optimization.muon import num_flops, orthogonalize
from charlstm.training.learner import shape_of

MACHINE = Machine(flops=1e9, memory=1e9, time_step=0.0, kernel=0.0, latency=0.0, link=1e6, far_link=1e5, per_node=4)
WORK = Work(
    num_weights=1000,
    flops_per_char=6000,
    recurrent_weights=0,
    matrices=[(10, 10)] * 5,
    num_layers=1,
    num_rows=8,
    context_len=10,
)


def test_work_is_that_of_the_model() -> None:
    params = compose(ROOT, MODELS["`quick`"])
    work = work_of(params)
    model = CharLSTM(shape_of(scaling.VOCAB_SIZE, params.model), "fused")
    assert work.num_weights == model.num_parameters() == 808_705
    assert sorted(work.matrices) == [(320, 128)] * 4 + [(320, 320)] * 6
    assert work.flops_per_char == 6 * (4 * 320 * 128 + 6 * 320 * 320 + 65 * 320)
    assert 45e6 < work_of(compose(ROOT, MODELS["2×1,856"])).num_weights < 55e6


@pytest.mark.parametrize("size", [(12, 12), (12, 20), (20, 12)])
def test_flops_of_muon_are_those_of_its_products(size: tuple[int, int]) -> None:
    with FlopCounterMode(display=False) as counter:
        orthogonalize(torch.randn(size))
    assert counter.get_total_flops() == num_flops(*size) > 0


def test_seconds_of_a_step() -> None:
    one = seconds(WORK, MACHINE, 1, 8)
    assert one == pytest.approx((6000 * 8 * 10 / 1e9, 5 * 3 * 6000 / 1e9, 4 * scaling.PASSES * 1000 / 1e9, 0.0, 0.0))
    two = seconds(WORK, MACHINE, 2, 7)
    assert two.gradients == pytest.approx(6000 * 4 * 10 / 1e9)  # the larger half of 7 rows
    assert two.muon == pytest.approx(3 * num_flops(10, 10) / 1e9)  # three of five matrices
    assert two.repeated == seconds(WORK, MACHINE, 1, 7).repeated == pytest.approx(4 * scaling.PASSES * 1000 / 1e9)
    assert two.all_reduce == pytest.approx(4000 / 1e6)
    assert two.all_gather == pytest.approx(600 / 1e6) and bytes_of_updates(WORK, 2) == 600
    eight = seconds(WORK, MACHINE._replace(latency=1.0), 8, 8)
    assert eight.all_reduce == pytest.approx(3 + 2 * 7 / 8 * 4000 / 1e5)  # between nodes
    assert eight.all_gather == pytest.approx(3 + 7 * 200 / 1e5)


def test_few_rows_wait_for_time_steps_and_for_the_weights_to_be_read() -> None:
    slow = MACHINE._replace(time_step=0.5)
    assert seconds(WORK, slow, 1, 1).gradients == pytest.approx(2 * 10 * 0.5 + 6000 * 10 / 1e9)
    read = WORK._replace(recurrent_weights=1_000_000)
    assert seconds(read, MACHINE, 1, 1).gradients == pytest.approx(2 * 10 * 2e6 / 1e9)


def test_free_communication_scales_as_far_as_work_is_shared() -> None:
    free = MACHINE._replace(link=math.inf, far_link=math.inf, memory=math.inf)
    assert speed_up(WORK._replace(matrices=[(10, 10)] * 4), free, 4, 8) == pytest.approx(4)
    assert speed_up(WORK, free, 4, 8) < 4  # five matrices for four


def test_the_batch_worth_it_is_the_smallest() -> None:
    rows = rows_worth_it(WORK, MACHINE, 4)
    assert rows is not None and rows >= 4 and rows & (rows - 1) == 0
    assert speed_up(WORK, MACHINE, 4, rows) >= 0.8 * 4 > speed_up(WORK, MACHINE, 4, rows // 2)
    assert rows_worth_it(WORK, MACHINE._replace(link=1e-6), 4) is None


def test_the_table_follows_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for options in ([], ["--far-link", "1e9"]):
        monkeypatch.setattr(sys, "argv", ["scaling", *options])
        assert scaling.main() == 0
        tables.append(capsys.readouterr().out.splitlines()[2:])
    assert len(tables[0]) == 9 and len(MODELS) == 3
    different = [one for one, other in zip(*tables, strict=True) if one != other]
    assert len(different) == 3 and all("| 64 |" in row for row in different)
