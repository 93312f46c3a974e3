"""What `charlstm sweep` does: the runs below one parent, as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from charlstm.errors import LineageError
from charlstm.tracking.client import SWEEP_TAG
from charlstm.tracking.lineage import TrackedRun
from charlstm.tracking.plots import plot_sweep
from charlstm.tracking.registry import LOSS_SUFFIX, PROTOCOLS
from pipeline.common.provenance import EXPERIMENT
from pipeline.lineage.revisions import find_commit
from pipeline.lineage.tracing import open_reader

TRAINING = ("train/", "validation/")
NOT_VARIED = ("download.", "sample.")  # decide no loss


class Sweep(NamedTuple):
    """The trainings of a sweep that have losses, the best by `protocol` first, and the parameters that differ."""

    runs: list[TrackedRun]
    protocol: str
    varied: list[str]

    def loss(self, run: TrackedRun, protocol: str | None = None) -> float:
        """In nats/char."""
        return run.metrics[f"{protocol or self.protocol}{LOSS_SUFFIX}"]


def show_sweep(revision: str, output: Path) -> None:
    """Print the sweep that began from a commit, and draw it.

    Raises:
        LineageError: there is no such commit, or no sweep began from it.
        TrackingError: the store does not answer.
    """
    found = read_sweep(revision)
    shared = [one for one in PROTOCOLS if all(f"{one}{LOSS_SUFFIX}" in run.metrics for run in found.runs)]
    protocols = shared or [found.protocol]
    table = Table(title=f"{len(found.runs)} trainings (nats per character; the best first)")
    for column in ("experiment", *found.varied, *protocols):
        table.add_column(column)
    for run in found.runs:
        losses = [f"{found.loss(run, protocol):.4f}" for protocol in protocols]
        table.add_row(run.tags.get(EXPERIMENT, run.name), *(run.params.get(name, "") for name in found.varied), *losses)
    console = Console(highlight=False)
    console.print(table)
    losses_of_runs = [found.loss(run) for run in found.runs]
    values = {name: [run.params.get(name, "") for run in found.runs] for name in found.varied}
    plot_sweep(output, values, losses_of_runs, f"{found.protocol} (nats per character)")
    console.print(f"the loss over each parameter: {output}", soft_wrap=True)


def read_sweep(revision: str) -> Sweep:
    """The runs below the parent of that commit.

    Raises:
        LineageError, TrackingError: as `show_sweep`.
    """
    commit = find_commit(revision)
    if commit is None:
        raise LineageError(f"{revision}: expected a commit, branch or tag, found none of that name")
    reader = open_reader()
    parents = reader.by_tag(SWEEP_TAG, commit)
    children = [run for parent in parents for run in reader.by_tag("mlflow.parentRunId", parent.run_id)]
    runs = [run for run in children if any(name.endswith(LOSS_SUFFIX) for name in _measured(run))]
    if not runs:
        raise LineageError(
            f"{revision}: expected a commit that experiments began from with `dvc exp run --queue` or `--temp`, found "
            f"{len(children)} of them with a loss"
        )
    protocol = common_protocol(runs)
    runs.sort(key=lambda run: run.metrics[f"{protocol}{LOSS_SUFFIX}"])
    return Sweep(runs, protocol, varied(runs))


def common_protocol(runs: Sequence[TrackedRun]) -> str:
    """The first protocol that all runs were measured by."""
    common = set.intersection(*({name.removesuffix(LOSS_SUFFIX) for name in _measured(run)} for run in runs))
    if not common:
        raise LineageError("expected a protocol that all experiments were measured by, found none")
    return next(one for one in (*PROTOCOLS, *sorted(common)) if one in common)


def varied(runs: Sequence[TrackedRun]) -> list[str]:
    """The parameters that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.params if not name.startswith(NOT_VARIED))
    return [name for name in names if len({run.params.get(name) for run in runs}) > 1]


def _measured(run: TrackedRun) -> list[str]:
    """Losses of whole evaluations: not those of the training itself."""
    return [name for name in run.metrics if name.endswith(LOSS_SUFFIX) and not name.startswith(TRAINING)]
