"""What a training leaves: losses by step and epoch, as records, frames and CSV files."""

import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_file
from charlstm.files.checksums import SUMS, verify, write_sums

EPOCHS, STEPS = "history.csv", "steps.csv"
TEXT_COLUMNS = ("prompt", "text")  # of a table of samples


class StepRow(NamedTuple):
    """One optimizer update, or the mean over `log_every_steps` of them that end with it."""

    step: int
    epoch: int
    train_nats_per_char: float
    learning_rate: float
    gradient_norm: float


class EpochRow(NamedTuple):
    """One epoch: the mean training loss of its steps, the validation loss at its end."""

    epoch: int
    step: int
    train_nats_per_char: float
    val_nats_per_char: float


class Tables(NamedTuple):
    """The whole history of a training, as frames: a row an epoch, a row every few steps."""

    epochs: pd.DataFrame
    steps: pd.DataFrame


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def table(rows: Sequence[NamedTuple], columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with a row per record."""
    return pd.DataFrame(rows, columns=list(columns))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame: floats with all their digits, texts in quotes because they may have line breaks."""
    has_texts = len(frame.select_dtypes(exclude="number").columns) > 0
    with atomic_file(path) as temporary:
        frame.to_csv(
            temporary,
            index=False,
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC if has_texts else csv.QUOTE_MINIMAL,
        )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read what `write_csv` wrote.

    Raises:
        CharlstmError: missing, not a table, without one of `columns` or without a row, or with an empty cell.
    """
    texts = dict.fromkeys(TEXT_COLUMNS, str)  # "007" is a text
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=texts)
    except (OSError, ValueError) as error:
        raise CharlstmError(
            f"{path}: cannot read the table: {' '.join(str(error).split())}"
        ) from None
    if missing := [column for column in columns if column not in frame.columns]:
        raise CharlstmError(
            f"{path}: expected the columns {', '.join(columns)}; missing: {', '.join(missing)}"
        )
    if frame.empty or frame[list(columns)].isna().any(axis=None):
        raise CharlstmError(
            f"{path}: expected a value in every cell of at least one row; the file is damaged"
        )
    return frame


def write_tables(folder: Path, tables: Tables, weights: Path) -> None:
    """Write the tables of the training that made the file `weights`, and checksums that tie them to it."""
    for name, frame in zip((EPOCHS, STEPS), tables, strict=True):
        write_csv(folder / name, frame)
    write_sums(folder / SUMS, _summed(folder, weights))


def read_tables(folder: Path, weights: Path) -> Tables:
    """Read what `write_tables` wrote.

    Raises:
        ChecksumError: a table is damaged, or the model is of another training.
        CharlstmError: a table is missing.
    """
    verify(folder / SUMS, _summed(folder, weights))
    return Tables(
        read_csv(folder / EPOCHS, EpochRow._fields), read_csv(folder / STEPS, StepRow._fields)
    )


def _summed(folder: Path, weights: Path) -> list[str]:
    return [EPOCHS, STEPS, os.path.relpath(weights, folder)]
