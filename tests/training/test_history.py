"""Tables of a training, and the picture of its losses."""

from pathlib import Path

import pandas as pd
import pytest

from charlstm.errors import CharlstmError
from charlstm.history import EpochRow, StepRow, read_csv, table, write_csv

EPOCHS = [EpochRow(1, 10, 2.0, 1.9), EpochRow(2, 20, 1.5, 0.1 + 0.2)]
STEPS = [StepRow(step, 1 + step // 11, 3 / step, 0.1, 1.0) for step in range(1, 21)]


def test_tables_keep_every_digit_and_every_newline(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, table(EPOCHS, EpochRow._fields))
    rows = read_csv(path, EpochRow._fields).itertuples(index=False)
    assert [EpochRow(*row) for row in rows] == EPOCHS
    texts = [("\n", 'a "quoted", text\n\nNA'), ("007", "1e5"), ("null", "x\ry")]
    write_csv(path, pd.DataFrame(texts, columns=["prompt", "text"]))
    assert list(read_csv(path, ("prompt", "text")).itertuples(index=False, name=None)) == texts


@pytest.mark.parametrize("content", ["", "epoch\n1\n", "epoch,step\n", "epoch,step\n1,\n"])
def test_damaged_tables(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(CharlstmError, match="damaged|missing: step|cannot read"):
        read_csv(tmp_path / "table.csv", ("epoch", "step"))
