"""What only process 0 holds during training: the lock and the observers."""

from collections.abc import Sequence
from contextlib import ExitStack

from charlstm.files.checksums import SUMS
from charlstm.tracking.sync import published_while_training
from charlstm.tracking.training_record import TrainingRecord
from charlstm.training.loop import Data, Result
from charlstm.training.progress import Observer
from pipeline.lineage import provenance
from pipeline.lineage.run_page import page_tags, summary_of
from pipeline.run import unfinished
from pipeline.run.console import TrainingConsole
from pipeline.run.epoch_texts import EpochTexts
from pipeline.run.settings import seconds
from pipeline.run.stage import Stage
from pipeline.run.store import store

FINGERPRINT_TAG = "fingerprint"


class MainProcess:
    """The resources of process 0, which `opened` closes in reverse order."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self.observers: Sequence[Observer] = []

    def open(self, stage: Stage, data: Data, prompts: Sequence[str]) -> None:
        """Lock the training run and start the observers.

        Raises:
            LockedError: this training run, or another one in this checkout, is running.
        """
        training = self._opened.enter_context(unfinished.start_or_resume(stage.fingerprint))
        params = stage.params
        tags = provenance.tags(params, stage.paths) | provenance.environment()
        self._summary = summary_of(params, tags)
        tags |= {**page_tags(self._summary), FINGERPRINT_TAG: stage.fingerprint}
        self._training = training
        self._record = TrainingRecord(training.folder, training.training_id, params.flat(), tags)
        console = TrainingConsole()
        shows = [console.show_texts, self._record.log_texts]
        texts = EpochTexts(prompts, data.vocab, params.train.seed, shows)
        self.observers = [console, self._record, texts]
        patience = seconds("CHARLSTM_TRACKING_SECONDS")
        published = published_while_training(store(), training.folder, patience)
        for context in (published, console, self._record):
            self._opened.enter_context(context)

    def finish(self, stage: Stage, result: Result, peak_memory_mib: float) -> None:
        """Mark the training run as finished, after its outputs were written."""
        paths = stage.paths
        self._training.finish(paths.train / SUMS)
        summary = self._summary._replace(
            num_parameters=result.shape.num_parameters,
            val_nats_per_char=result.best.val_nats_per_char,
        )
        peak = {"hardware.peak_memory_mib": f"{peak_memory_mib:.0f}"}
        tags = page_tags(summary) | provenance.train_md5(paths) | peak
        self._record.finish(paths.model, len(result.epochs), result.train_seconds, tags)
