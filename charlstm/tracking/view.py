"""A view of an experiment that MLflow's UI opens by its address: which columns, which x axis.

MLflow keeps a shared view as JSON in a tag of the experiment. The format is undocumented: it was read from the UI of
MLflow 3.17. If another version cannot read it, the page opens with MLflow's own columns.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from charlstm.evaluation.published import TEST_PREFIX
from charlstm.sections import NOT_OF_A_MODEL, differing
from charlstm.tracking.client import RECIPE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"
TAG = f"mlflow.sharedViewState.{NAME}"
NUM_RUNS = 50  # the newest decide the columns
MAX_PARAMETERS = 8
NUM_PARAMETERS, SECONDS = "model/num_parameters", "train/seconds"
NOT_VARIED = ("download.", *NOT_OF_A_MODEL)  # of the first, the tag `corpus` says all
CURVES = ("validation/nats_per_char", "train/nats_per_char")
LOSS_SECTION = "loss"
SECTIONS = {"": "Model metrics", "system": "System metrics"}  # as MLflow names them
RUN_NAME = "attributes.`Run Name`"


def share_view(client: "MlflowClient", experiment_id: str) -> bool | None:
    """Fit the shared view to the experiment's runs; whether this user may. None if it has no runs."""
    runs = client.search_runs([experiment_id], max_results=NUM_RUNS)
    if not runs:
        return None
    trainings = [run for run in runs if run.data.params]  # and no parents of sweeps
    data = [run.data for run in trainings]
    state = view_state([one.metrics for one in data], [one.params for one in data], [one.tags for one in data])
    try:
        client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    except Exception:  # a user who may only read, a database that is mounted read-only: the page opens all the same
        return False
    return True


def page(server: str, experiment_id: str, *, is_shared: bool) -> str:
    """The address of the experiment's runs. Without `workflowType`, MLflow opens its view for language models."""
    query = {"workflowType": "machine_learning", **({"viewStateShareKey": NAME} if is_shared else {})}
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def view_state(
    metrics: Sequence[Mapping[str, float]],
    params: Sequence[Mapping[str, str]],
    tags: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Columns for the recipe, losses by protocol, the cost, and parameters that differ; charts that open with the loss.

    Sorted by a loss, the best first: then those of a sweep stand beside all others, and not folded away below a parent.

    `metrics`, `params` and `tags` have a mapping for each run.
    """
    names = sorted({name for run in metrics for name in run})
    measured = [name for name in names if name.endswith("nats_per_char")]
    by_protocol = [name for name in measured if not name.startswith(("train/", "validation/", TEST_PREFIX))]
    # First losses of windows, as others publish them.
    by_protocol = sorted(by_protocol or measured, key=lambda name: (not name.startswith("windowed"), name))
    losses = [f"metrics.`{name}`" for name in by_protocol]
    is_muon = any(run.get("train.optimizer") == "muon" for run in params)  # then this rate moves the LSTM's weights
    rate = "train.muon.learning_rate" if is_muon else "train.learning_rate"
    cost = [f"params.`{name}`" for name in ("train.epochs", rate) if any(name in run for run in params)]
    cost += [f"metrics.`{name}`" for name in (NUM_PARAMETERS, SECONDS) if name in names]
    recipe = [f"tags.`{RECIPE_TAG}`"] if any(RECIPE_TAG in run for run in tags) else []
    unequal = differing(params)
    corpus = ["tags.`corpus`"] if any(name.startswith("download.") for name in unequal) else []
    varied = [f"params.`{name}`" for name in unequal if not name.startswith(NOT_VARIED)]
    columns = [*recipe, *losses, *cost, *corpus, *[one for one in varied if one not in cost][:MAX_PARAMETERS]]
    widths = {RUN_NAME: 320, **dict.fromkeys(recipe, 260), **dict.fromkeys(losses, 190)}
    state: dict[str, Any] = {"selectedColumns": columns, "columnOrder": [RUN_NAME, *columns], "columnWidths": widths}
    if losses:
        state |= {"orderByKey": losses[0], "orderByAsc": True}
    if chars_seen := [name for name in names if name.rpartition("/")[2] == "chars_seen"]:
        state["globalLineChartConfig"] = {
            "xAxisKey": "metric",
            "selectedXAxisMetricKey": chars_seen[0],
            "lineSmoothness": 0,
        }
    return state | _charts(names)


def _charts(names: Sequence[str]) -> dict[str, Any]:
    """The losses as curves in a section of their own. All that has one value a run comes below, folded.

    MLflow adds the charts that are not named here, each to the section that its name begins with.
    """
    curves = [name for name in CURVES if name in names]
    if not curves:
        return {}
    folded = sorted({SECTIONS.get(section, section) for section in (name.rpartition("/")[0] for name in names)})
    sections = [
        {
            "uuid": f"{NAME}-section-{name}",
            "name": name,
            "display": name == LOSS_SECTION,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
        }
        for name in (LOSS_SECTION, *folded)
    ]
    charts = [
        {
            "type": "LINE",
            "uuid": f"{NAME}-{name}",
            "metricSectionId": sections[0]["uuid"],
            "metricKey": name,
            "selectedMetricKeys": [name],
            "displayName": name,
            "deleted": False,
            "isGenerated": False,
            "runsCountToCompare": 10,
            "lineSmoothness": 0,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "range": {},
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
        for name in curves
    ]
    return {"compareRunCharts": charts, "compareRunSections": sections, "isAccordionReordered": True}
