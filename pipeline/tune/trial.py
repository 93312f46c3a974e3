"""Stage trial: a training of a search, as stage train trains, with parameters and a folder of its own.

`charlstm tune` starts it, as DVC starts stage train. It tells the search each validation loss. When the search sees no
hope in it, it asks itself to stop, as a user would: all its processes end after the same step.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import TrainingError
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params, load_params
from charlstm.tracking.client import SWEEP_TAG, TRIAL_TAG
from charlstm.training.history import EpochRow
from charlstm.training.progress import Observer, Plan, Progress
from pipeline import train
from pipeline.dvc.paths import Paths, load_paths
from pipeline.stage import stage
from pipeline.stage.project import PARAMS, PIPELINE
from pipeline.tune.study import MODEL, TRAINING, Study


class Reporter(Observer):
    """Tells the search the loss after each validation."""

    def __init__(self, study: Path, number: int) -> None:
        self._folder, self._number = study, number

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Tell it what earlier starts have seen: one may have been killed before it could."""
        self._study, self._num_epochs = Study(self._folder), plan.num_epochs
        for row in progress.epochs:
            self._report(row)

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Tell it the loss."""
        self._report(row)

    def _report(self, row: EpochRow) -> None:
        """The part of the training that is done counts, not the epoch: the learning rate depends on it."""
        share = row.epoch / self._num_epochs
        if self._study.is_hopeless(self._number, share, row.val_nats_per_char):
            os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tune.trial", description=__doc__)
    parser.add_argument("study", type=Path, help="the folder of the search")
    parser.add_argument("number", type=int)
    arguments = parser.parse_args(argv)
    folder = arguments.study / str(arguments.number)

    def load() -> tuple[Params, Paths]:
        """The parameters in the trial's folder; the project's paths, with that folder for what is written."""
        paths = load_paths(PIPELINE, folder / PARAMS)
        own = {"model": folder / MODEL, "train": folder / TRAINING}
        return load_params(folder / PARAMS), paths.model_copy(update=own)

    def work() -> None:
        reporter = Reporter(arguments.study, arguments.number)
        try:
            tags = {SWEEP_TAG: arguments.study.name, TRIAL_TAG: str(arguments.number)}
            train.run(*load(), train.Job(load, folder, tags, [reporter]))
        except TrainingError as error:
            Study(arguments.study).refuse(arguments.number, str(error))
            raise

    return stage.run_work(work)


if __name__ == "__main__":
    sys.exit(main())
