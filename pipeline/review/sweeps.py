"""What `charlstm sweep` does: the experiments of one commit, as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from charlstm.errors import LineageError
from charlstm.evaluation.protocol_names import TEST_PREFIX
from charlstm.tracking.client import SWEEP_TAG
from charlstm.tracking.lineage import Reader, TrackedRun
from charlstm.tracking.plots import plot_sweep
from charlstm.tracking.registry import LOSS_SUFFIX, PROTOCOLS
from charlstm.tracking.shared_view import differing_params
from pipeline.common.paths import load_paths
from pipeline.common.provenance import EXPERIMENT, TRAIN_MD5
from pipeline.lineage.revisions import experiments, find_commit, lock_at
from pipeline.lineage.traces import train_md5_of
from pipeline.lineage.tracing import open_reader

NOT_COMPARED = ("train/", "validation/", TEST_PREFIX)
NOT_VARIED = ("download.", "sample.")  # decide no loss


class Sweep(NamedTuple):
    """The experiments of a sweep that have losses, the best by `protocol` first, and the parameters that differ."""

    runs: list[tuple[str, TrackedRun]]  # by the experiment's name
    protocol: str
    varied: list[str]

    def losses(self, protocol: str) -> list[float]:
        """In nats/char, of each."""
        return [run.metrics[f"{protocol}{LOSS_SUFFIX}"] for _, run in self.runs]


def show_sweep(revision: str, output: Path) -> None:
    """Print the sweep that began from a commit, and draw it.

    Raises:
        LineageError: there is no such commit, or no sweep began from it.
        TrackingError: the store does not answer.
    """
    found = read_sweep(revision)
    protocols = sorted(set.intersection(*(_protocols(run) for _, run in found.runs)))
    values = {name: [run.params.get(name, "") for _, run in found.runs] for name in found.varied}
    table = Table(title=f"{len(found.runs)} experiments (nats per character; the best first)")
    for column in ("experiment", *(name.partition(".")[2] for name in found.varied), *protocols):
        table.add_column(column)
    losses = [[f"{loss:.4f}" for loss in found.losses(protocol)] for protocol in protocols]
    for row in zip([name for name, _ in found.runs], *values.values(), *losses, strict=True):
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    plot_sweep(output, values, found.losses(found.protocol), f"{found.protocol} (nats per character)")
    console.print(f"the loss over each parameter: {output}", soft_wrap=True)


def read_sweep(revision: str) -> Sweep:
    """The experiments that began from a commit, each with the run of its model.

    Those that DVC has in this repository, and those below the commit's run in MLflow. The tie is content: an experiment
    that DVC restored from its run cache has the run that trained the model.

    Raises:
        LineageError, TrackingError: as `show_sweep`.
    """
    commit = find_commit(revision)
    if commit is None:
        raise LineageError(f"{revision}: expected a commit, branch or tag, found none of that name")
    reader = open_reader()
    runs = {**_in_mlflow(commit, reader), **_in_dvc(commit, reader)}
    measured = [(name, run) for name, run in runs.items() if _protocols(run)]
    if not measured:
        raise LineageError(
            f"{revision}: expected a commit that experiments began from (`dvc exp run --queue`), found {len(runs)} of "
            "them in MLflow, and none with a loss"
        )
    protocol = common_protocol([run for _, run in measured])
    measured.sort(key=lambda one: one[1].metrics[f"{protocol}{LOSS_SUFFIX}"])
    return Sweep(measured, protocol, varied([run for _, run in measured]))


def _in_mlflow(commit: str, reader: Reader) -> dict[str, TrackedRun]:
    parents = reader.by_tag(SWEEP_TAG, commit)
    children = [run for parent in parents for run in reader.by_tag("mlflow.parentRunId", parent.run_id)]
    return {run.tags.get(EXPERIMENT, run.name): run for run in children}


def _in_dvc(commit: str, reader: Reader) -> dict[str, TrackedRun]:
    paths, found = load_paths(Path("dvc.yaml")), {}
    for experiment, (name, baseline) in experiments().items():
        lock = lock_at(experiment) if baseline == commit else None
        train_md5 = train_md5_of(lock, paths) if lock else None
        if train_md5 and (runs := reader.by_tag(TRAIN_MD5, train_md5)):
            found[name] = runs[0]
    return found


def common_protocol(runs: Sequence[TrackedRun]) -> str:
    """The first protocol that all runs were measured by."""
    common = set.intersection(*map(_protocols, runs))
    if not common:
        raise LineageError("expected a protocol that all experiments were measured by, found none")
    return next(one for one in (*PROTOCOLS, *sorted(common)) if one in common)


def varied(runs: Sequence[TrackedRun]) -> list[str]:
    """The parameters that are not the same in all runs, of those that decide a loss."""
    return [name for name in differing_params([run.params for run in runs]) if not name.startswith(NOT_VARIED)]


def _protocols(run: TrackedRun) -> set[str]:
    """Of whole evaluations of the validation part: not the losses of the training itself, nor of the test part."""
    names = [name for name in run.metrics if name.endswith(LOSS_SUFFIX) and not name.startswith(NOT_COMPARED)]
    return {name.removesuffix(LOSS_SUFFIX) for name in names}
