"""A view of an experiment that MLflow's UI opens by its address: which columns, which x axis.

MLflow keeps a shared view as JSON in a tag of the experiment. The format is undocumented: it was read from the UI of
MLflow 3.17. If another version cannot read it, the page opens with MLflow's own columns.
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
NUM_RUNS = 50  # the newest decide the columns
MAX_PARAMETERS = 8
COST = ("params.`train.epochs`", "metrics.`train/num_parameters`", "metrics.`train/seconds`")
NOT_VARIED = ("download.", *NOT_OF_A_MODEL)  # each corpus has an experiment of its own
OPENED = ("loss", "train")  # sections of charts
RUN_NAME = "attributes.`Run Name`"
# In pixels: name, recipe, losses and cost are seen at once on a screen of 1,600.
NAME_WIDTH, RECIPE_WIDTH, LOSS_WIDTH, WIDTH = 280, 220, 130, 100


def share_view(client: "MlflowClient", experiment_id: str) -> bool | None:
    """Fit the shared view to the experiment's runs; whether this user may. None if it has no runs."""
    runs = client.search_runs([experiment_id], max_results=NUM_RUNS)
    if not runs:
        return None
    data = [run.data for run in runs]
    state = view_state([one.metrics for one in data], [one.params for one in data])
    try:
        client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    except Exception:  # a user who may only read, a database that is mounted read-only: the page opens all the same
        return False
    return True


def page(server: str, experiment_id: str, *, is_shared: bool) -> str:
    """The address of the experiment's runs. Without `workflowType`, MLflow opens its view for language models."""
    query = {
        "workflowType": "machine_learning",
        **({"viewStateShareKey": NAME} if is_shared else {}),
    }
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def view_state(
    metrics: Sequence[Mapping[str, float]], params: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Columns for losses by protocol, the recipe, the cost, and parameters that differ.

    Sorted by the headline loss, the best first. `metrics` and `params` have a mapping for each run.
    """
    names = sorted({name for run in metrics for name in run})
    measured = [
        f"metrics.`{name}`" for name in names
        if name.endswith(LOSS_SUFFIX) and not name.startswith(("train/", "validation/", TEST_PREFIX))
    ]  # fmt: skip
    headline = f"metrics.`{HEADLINE}{LOSS_SUFFIX}`"
    losses = sorted(measured, key=lambda name: (name != headline, name))
    recipe = f"tags.`{RECIPE_TAG}`"
    varied = [f"params.`{name}`" for name in differing(params) if not name.startswith(NOT_VARIED)]
    columns = [
        *losses,
        recipe,
        *COST,
        *[name for name in varied if name not in COST][:MAX_PARAMETERS],
    ]
    widths = {
        RUN_NAME: NAME_WIDTH,
        **dict.fromkeys(columns, WIDTH),
        **dict.fromkeys(losses, LOSS_WIDTH),
    }
    widths[recipe] = RECIPE_WIDTH
    state: dict[str, Any] = {
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": widths,
    }
    if losses:
        state |= {"orderByKey": losses[0], "orderByAsc": True}
    if "train/chars_seen" in names:
        axis = {
            "xAxisKey": "metric",
            "selectedXAxisMetricKey": "train/chars_seen",
            "lineSmoothness": 0,
        }
        state["globalLineChartConfig"] = axis
    return state | {
        "compareRunCharts": [],
        "compareRunSections": _sections(names),
        "isAccordionReordered": True,
    }


def _sections(names: Sequence[str]) -> list[dict[str, Any]]:
    """The curves of losses first, opened; those of the machine last. MLflow puts a chart for each metric into them."""
    others = sorted({name.rpartition("/")[0] for name in names} - {*OPENED, "", "system"})
    return [
        {
            "uuid": f"{NAME}-section-{name}",
            "name": name,
            "display": name in OPENED,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
        }
        for name in (
            *OPENED,
            *others,
            "Model metrics",
            "System metrics",
        )  # the last two as MLflow names them
    ]
