"""What only process 0 holds during training: the lock and the observers."""

from collections.abc import Sequence
from contextlib import ExitStack

from charlstm.files.checksums import SUMS
from charlstm.tracking.sync import published_while_training
from charlstm.tracking.training_record import TrainingRecord
from charlstm.training.loop import Data, Result
from charlstm.training.progress import Observer
from pipeline.lineage.mlflow_run import page_tags
from pipeline.lineage.provenance import TRAIN_MD5, environment, provenance_tags
from pipeline.run import unfinished
from pipeline.run.console import TrainingConsole
from pipeline.run.dvc import md5
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
        self._provenance = provenance_tags(params, stage.paths)
        tags = self._provenance | environment() | page_tags(params, self._provenance)
        tags[FINGERPRINT_TAG] = stage.fingerprint
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
        tags = page_tags(stage.params, self._provenance, result.shape.num_parameters)
        tags[TRAIN_MD5] = md5(paths.train / SUMS)
        tags["hardware.peak_memory_mib"] = f"{peak_memory_mib:.0f}"
        self._record.finish(paths.model, len(result.epochs), result.train_seconds, tags)
