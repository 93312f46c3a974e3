"""A view of an experiment that MLflow's UI opens by its address: which columns, which x axis.

MLflow keeps a shared view as JSON in a tag of the experiment. The format is undocumented: it was read from the UI of
MLflow 3.17. If another version cannot read it, the page opens with MLflow's own columns.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from charlstm.evaluation.protocol_names import TEST_PREFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"
TAG = f"mlflow.sharedViewState.{NAME}"
NUM_RUNS = 50  # the newest decide the columns
MAX_PARAMETERS = 8
RUN_NAME = "attributes.`Run Name`"


class Shared(NamedTuple):
    """What became of sharing a view: whether the experiment has runs, and whether this user may change its tags."""

    has_runs: bool
    is_shared: bool


def share_view(client: "MlflowClient", experiment_id: str) -> Shared:
    """Fit the shared view to the experiment's runs."""
    runs = client.search_runs([experiment_id], max_results=NUM_RUNS)
    if not runs:
        return Shared(has_runs=False, is_shared=False)
    trainings = [run for run in runs if run.data.params]  # and no parents of sweeps
    state = view_state([run.data.metrics for run in trainings], [run.data.params for run in trainings])
    try:
        client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    except Exception:  # a user who may only read, a database that is mounted read-only: the page opens all the same
        return Shared(has_runs=True, is_shared=False)
    return Shared(has_runs=True, is_shared=True)


def page(server: str, experiment_id: str, *, is_shared: bool) -> str:
    """The address of the experiment's runs. Without `workflowType`, MLflow opens its view for language models."""
    query = {"workflowType": "machine_learning", **({"viewStateShareKey": NAME} if is_shared else {})}
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def view_state(metrics: Sequence[Mapping[str, float]], params: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Columns for losses by protocol and for parameters that differ; curves over `chars_seen` if it is there.

    Sorted by a loss, the best first: then those of a sweep stand beside all others, and not folded away below a parent.

    `metrics` and `params` have a mapping for each run.
    """
    names = sorted({name for run in metrics for name in run})
    measured = [name for name in names if name.endswith("nats_per_char")]
    by_protocol = [name for name in measured if not name.startswith(("train/", "validation/", TEST_PREFIX))]
    losses = [f"metrics.`{name}`" for name in sorted(by_protocol or measured, key=_windowed_first)]
    differing = [f"params.`{name}`" for name in differing_params(params)[:MAX_PARAMETERS]]
    columns = [*losses, *differing]
    widths = {RUN_NAME: 320, **dict.fromkeys(losses, 190)}
    state: dict[str, Any] = {"selectedColumns": columns, "columnOrder": [RUN_NAME, *columns], "columnWidths": widths}
    if losses:
        state |= {"orderByKey": losses[0], "orderByAsc": True}
    if chars_seen := [name for name in names if name.rpartition("/")[2] == "chars_seen"]:
        state["globalLineChartConfig"] = {
            "xAxisKey": "metric",
            "selectedXAxisMetricKey": chars_seen[0],
            "lineSmoothness": 0,
        }
    return state


def _windowed_first(name: str) -> tuple[bool, str]:
    """Losses that others publish are of windows."""
    return not name.startswith("windowed"), name


def differing_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of parameters that are not the same in all runs; `params` has a mapping for each run."""
    names = {name: None for run in params for name in run}
    return [name for name in names if len({run.get(name) for run in params}) > 1]
