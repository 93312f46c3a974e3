"""The observer of training that fills an MLflow run as it goes."""

from collections.abc import Mapping, Sequence

import pandas as pd

from charlstm.tracking.client import Store
from charlstm.tracking.measurements import Measurement, epoch_metrics, step_metrics
from charlstm.tracking.runs import MODEL_TAG, TRAINING_TAG, Run, resume_run
from charlstm.training.history import EpochRow, StepRow, TextRow
from charlstm.training.observer import Plan
from charlstm.training.progress import Progress


class TrainingTracker:
    """An observer of `train.fit` that fills a run: a new one, or the one that an earlier start of this training began.

    `training_id` is the same at every start of this training, and of no other.
    """

    def __init__(
        self, store: Store, params: Mapping[str, str | int | float], tags: Mapping[str, str], training_id: str
    ) -> None:
        self._store, self._params, self._tags = store, params, {**tags, TRAINING_TAG: training_id}
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The run; there is one from `on_start` on."""
        assert self._run is not None
        return self._run

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Open the run with all parameters and tags, the size of the work, and the hardware."""
        hardware = {"device": plan.device, "precision": plan.precision, "num_processes": str(plan.num_processes)}
        tags = {**self._tags, **hardware}
        past = [*step_metrics(progress.steps), *epoch_metrics(progress.epochs)]
        self._chars_per_epoch, self._num_epochs = plan.chars_per_epoch, len(progress.epochs)
        self._run = Run(self._store, lambda client, where: resume_run(client, where, tags, past))
        self.run.log_params(self._params)
        self.run.log_metrics([Measurement("num_parameters", plan.num_parameters)])

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Record losses, learning rate, gradient norm and speed by step."""
        speed = Measurement("chars_per_second", chars_per_second, row.step)
        self.run.log_metrics([*step_metrics([row]), speed])

    def on_epoch(self, row: EpochRow, texts: Sequence[TextRow], train_seconds: float) -> None:
        """Record the epoch's losses and what the model writes now."""
        self._num_epochs += 1
        self.run.log_metrics(epoch_metrics([row]))
        _log_texts(self.run, texts)

    def finish(self, model_sha256: str, texts: Sequence[TextRow], train_seconds: float) -> None:
        """Tie the run to its model and end it; the texts and seconds of all starts together."""
        speed = self._chars_per_epoch * self._num_epochs / train_seconds
        self.run.log_metrics([Measurement("train_seconds", train_seconds), Measurement("train_speed", speed)])
        self.run.set_tags({MODEL_TAG: model_sha256})
        self.run.log_table("texts/by-epoch.json", pd.DataFrame(texts))
        self.run.close("FINISHED")

    def abandon(self, status: str) -> None:
        """End the run, if it was opened, as FAILED or KILLED: it has no model yet."""
        if self._run is not None:
            self._run.close(status)


def _log_texts(run: Run, texts: Sequence[TextRow]) -> None:
    if texts:
        body = "\n\n".join(f"=== prompt {row.prompt!r}\n{row.prompt}{row.text}" for row in texts)
        run.log_text(f"texts/epoch-{texts[0].epoch:03d}.txt", body + "\n")
