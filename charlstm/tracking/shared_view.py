"""A shared view of an experiment's runs on MLflow's page: its columns, x axis and charts.

MLflow stores a shared view as JSON in a tag of the experiment. The format is undocumented and was
taken from the page of MLflow 3.17. If another version cannot read the view, the page opens with
MLflow's default columns.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.parameter_names import NOT_OF_A_MODEL, differing
from charlstm.tracking.client import RECIPE_TAG
from charlstm.tracking.registered_model import LOSS_SUFFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"
TAG = f"mlflow.sharedViewState.{NAME}"
NUM_RUNS = 50  # number of newest runs that decide which columns are shown
MAX_PARAMETERS = 8
COST = ("params.`train.epochs`", "metrics.`train/num_parameters`", "metrics.`train/seconds`")
# Parameters without a column. All runs of an experiment use the same corpus.
NOT_VARIED = ("download.", *NOT_OF_A_MODEL)
OPENED = ("loss", "train")  # chart sections that are open at first
RUN_NAME = "attributes.`Run Name`"
# Column widths in pixels. All columns up to the cost fit on a screen 1,600 pixels wide.
NAME_WIDTH = 280
RECIPE_WIDTH = 220
LOSS_WIDTH = 130
WIDTH = 100


def share_view(client: "MlflowClient", experiment_id: str) -> bool | None:
    """Save a view that fits the experiment's runs. Return whether the view could be saved.

    Return None if the experiment has no runs.
    """
    runs = client.search_runs([experiment_id], max_results=NUM_RUNS)
    if not runs:
        return None
    state = view_state([run.data.metrics for run in runs], [run.data.params for run in runs])
    try:
        client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    except Exception:  # without write access to the database, the page opens without the view
        return False
    return True


def page(server: str, experiment_id: str, *, is_shared: bool) -> str:
    """Return the URL of the experiment's runs, with the shared view if `is_shared`."""
    # Without `workflowType`, MLflow opens its page for language models.
    query = {"workflowType": "machine_learning"}
    if is_shared:
        query["viewStateShareKey"] = NAME
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def view_state(
    metrics: Sequence[Mapping[str, float]], params: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return a view with columns for losses, recipe, training cost and differing parameters.

    Rows are sorted by the headline loss, the lowest first.

    Args:
        metrics: the metrics of each run.
        params: the parameters of each run.
    """
    names = sorted({name for run in metrics for name in run})
    protocols = [
        name.removesuffix(LOSS_SUFFIX)
        for name in names
        if name.endswith(LOSS_SUFFIX) and not name.startswith(TEST_PREFIX)
    ]
    protocols.sort(key=lambda protocol: protocol != HEADLINE)
    losses = [f"metrics.`{protocol}{LOSS_SUFFIX}`" for protocol in protocols]
    recipe = f"tags.`{RECIPE_TAG}`"
    varied = [f"params.`{name}`" for name in differing(params) if not name.startswith(NOT_VARIED)]
    others = [name for name in varied if name not in COST]
    columns = [*losses, recipe, *COST, *others[:MAX_PARAMETERS]]
    state: dict[str, Any] = {
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {
            **dict.fromkeys(columns, WIDTH),
            **dict.fromkeys(losses, LOSS_WIDTH),
            RUN_NAME: NAME_WIDTH,
            recipe: RECIPE_WIDTH,
        },
        "compareRunCharts": [],
        "compareRunSections": _sections(names),
        "isAccordionReordered": True,  # otherwise MLflow sorts the sections by name
    }
    if losses:
        state |= {"orderByKey": losses[0], "orderByAsc": True}
    if "train/chars_seen" in names:
        state["globalLineChartConfig"] = {
            "xAxisKey": "metric",
            "selectedXAxisMetricKey": "train/chars_seen",
            "lineSmoothness": 0,
        }
    return state


def _sections(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the chart sections, with the losses first and the system metrics last.

    MLflow adds a chart for each metric whose name starts with the section's name.
    """
    others = sorted({name.rpartition("/")[0] for name in names} - {*OPENED, "", "system"})
    # The last two sections are MLflow's own.
    sections = (*OPENED, *others, "Model metrics", "System metrics")
    return [
        {
            "uuid": f"{NAME}-section-{name}",
            "name": name,
            "display": name in OPENED,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
        }
        for name in sections
    ]
