"""The history of training: losses by step and by epoch, as records, data frames and CSV files."""

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

EPOCHS = "history.csv"
STEPS = "steps.csv"
TEXT_COLUMNS = ("prompt", "text")  # text columns in a table of samples


class StepRow(NamedTuple):
    """One logged step. Loss and gradient norm are means over the steps since the previous row."""

    step: int
    epoch: int
    train_nats_per_char: float
    learning_rate: float
    gradient_norm: float


class EpochRow(NamedTuple):
    """One epoch, with its mean training loss and the validation loss at the end of the epoch."""

    epoch: int
    step: int
    train_nats_per_char: float
    val_nats_per_char: float


class Tables(NamedTuple):
    """The history of training as data frames, with one row per `EpochRow` or `StepRow`."""

    epochs: pd.DataFrame
    steps: pd.DataFrame


def now_ms() -> int:
    """Return the current time in milliseconds since 1970."""
    return time.time_ns() // 10**6


def table(rows: Sequence[NamedTuple], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a data frame with one row per record."""
    return pd.DataFrame(rows, columns=list(columns))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a data frame as a CSV file, with all digits of its numbers.

    Texts are in quotes, because they may have line breaks.
    """
    has_texts = len(frame.select_dtypes(exclude="number").columns) > 0
    with atomic_file(path) as temporary:
        frame.to_csv(
            temporary,
            index=False,
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC if has_texts else csv.QUOTE_MINIMAL,
        )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the data frame in a CSV file that `write_csv` wrote.

    Raises:
        CharlstmError: the file is missing or not a table, has no rows, lacks one of `columns`, or
            has an empty cell in them.
    """
    texts = dict.fromkeys(TEXT_COLUMNS, str)  # a text value may look like a number, such as "007"
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=texts)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CharlstmError(f"{path}: cannot read the table: {reason}") from None
    if set(columns) - set(frame) or frame.empty or frame[list(columns)].isna().any(axis=None):
        raise CharlstmError(
            f"{path} is damaged: expected the columns {', '.join(columns)}, with at least one row "
            f"and no empty cell"
        )
    return frame


def write_tables(folder: Path, tables: Tables, weights: Path) -> None:
    """Write the tables, and checksums that tie the tables to the weights of the same training."""
    write_csv(folder / EPOCHS, tables.epochs)
    write_csv(folder / STEPS, tables.steps)
    write_sums(folder / SUMS, _summed(folder, weights))


def read_tables(folder: Path, weights: Path) -> Tables:
    """Return the tables that `write_tables` wrote.

    Raises:
        ChecksumError: a table is damaged, or `weights` is from another training.
        CharlstmError: a table is missing.
    """
    verify(folder / SUMS, _summed(folder, weights))
    return Tables(
        read_csv(folder / EPOCHS, EpochRow._fields), read_csv(folder / STEPS, StepRow._fields)
    )


def _summed(folder: Path, weights: Path) -> list[str]:
    return [EPOCHS, STEPS, os.path.relpath(weights, folder)]
