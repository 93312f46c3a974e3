from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from charlstm.errors import CharlstmError
from charlstm.evaluation.plots import plot_losses
from charlstm.history import EpochRow, StepRow, read_csv, table, write_csv

EPOCHS = [EpochRow(1, 10, 2.0, 1.9), EpochRow(2, 20, 1.5, 0.1 + 0.2)]
STEPS = [StepRow(step, 1 + step // 11, 3 / step, 0.1, 1.0) for step in range(1, 21)]


def test_tables_keep_every_digit_and_every_newline(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, table(EPOCHS, EpochRow._fields))
    assert [EpochRow(*row) for row in read_csv(path, EpochRow._fields).itertuples(index=False)] == EPOCHS
    texts = [("\n", 'a "quoted", text\n\nNA'), ("007", "1e5"), ("null", "x\ry")]
    write_csv(path, pd.DataFrame(texts, columns=["prompt", "text"]))
    assert list(read_csv(path, ("prompt", "text")).itertuples(index=False, name=None)) == texts


def test_damaged_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(CharlstmError, match="cannot read the table: .*No such file"):
        read_csv(path, ("epoch",))
    path.write_text("")
    with pytest.raises(CharlstmError, match="cannot read the table: No columns"):
        read_csv(path, ("epoch",))
    path.write_text("epoch\n1\n")
    with pytest.raises(CharlstmError, match="missing: step"):
        read_csv(path, ("epoch", "step"))


@pytest.mark.parametrize("content", ["epoch,step\n", "epoch,step\n1,\n"])
def test_cut_tables(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(CharlstmError, match="damaged"):
        read_csv(tmp_path / "table.csv", ("epoch", "step"))


def test_the_picture_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    steps, epochs = table(STEPS, StepRow._fields), table(EPOCHS, EpochRow._fields)
    for name in ("one.png", "two.png", "alone.png"):
        plot_losses(tmp_path / name, steps, epochs, compare_with_original=name != "alone.png")
    one, two, alone = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png", "alone.png"))
    assert one == two != alone
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5}):  # as a user's matplotlibrc sets it
        plot_losses(tmp_path / "styled.png", steps, epochs, compare_with_original=True)
    assert (tmp_path / "styled.png").read_bytes() == one
    assert one.startswith(b"\x89PNG")


def test_an_empty_table_has_its_columns() -> None:
    assert table([], EpochRow._fields).columns.tolist() == list(EpochRow._fields)
