"""A shared view of an experiment's runs on MLflow's page: its columns and their order.

MLflow stores a shared view as JSON in a tag of the experiment. The format is undocumented and was
taken from the page of MLflow 3.17. If another version cannot read the view, the page opens with
MLflow's default columns.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.parameter_names import NOT_OF_A_MODEL, differing
from charlstm.tracking.client import RECIPE_TAG
from charlstm.tracking.registered_model import LOSS_SUFFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"
NUM_RUNS = 50  # number of newest runs that decide which columns are shown
MAX_PARAMETERS = 8
COST = ("params.`train.epochs`", "metrics.`train/num_parameters`", "metrics.`train/seconds`")
# Parameters without a column. All runs of an experiment use the same corpus.
NOT_VARIED = ("download.", *NOT_OF_A_MODEL)


def share_view(client: "MlflowClient", experiment_id: str) -> bool:
    """Save a view that fits the experiment's runs. Return False if the experiment has no runs."""
    runs = client.search_runs([experiment_id], max_results=NUM_RUNS)
    if not runs:
        return False
    state = view_state([run.data.metrics for run in runs], [run.data.params for run in runs])
    with suppress(Exception):  # without the permission to write, MLflow's default columns are shown
        client.set_experiment_tag(
            experiment_id, f"mlflow.sharedViewState.{NAME}", json.dumps(state)
        )
    return True


def page_url(server: str, experiment_id: str) -> str:
    """Return the URL of the experiment's runs, with the shared view."""
    # Without `workflowType`, MLflow opens its page for language models.
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": NAME})
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def view_state(
    metrics: Sequence[Mapping[str, float]], params: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return a view with columns for losses, recipe, training cost and differing parameters.

    Rows are sorted by the headline loss, the lowest first.

    Args:
        metrics: the metrics of each run.
        params: the parameters of each run.
    """
    names = {name for run in metrics for name in run if name.endswith(LOSS_SUFFIX)}
    headline = f"{HEADLINE}{LOSS_SUFFIX}"
    others = sorted(name for name in names - {headline} if not name.startswith(TEST_PREFIX))
    losses = [f"metrics.`{name}`" for name in (headline, *others)]
    varied = [f"params.`{name}`" for name in differing(params) if not name.startswith(NOT_VARIED)]
    varied = [name for name in varied if name not in COST]
    columns = [*losses, f"tags.`{RECIPE_TAG}`", *COST, *varied[:MAX_PARAMETERS]]
    return {
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns],
        "orderByKey": losses[0],
        "orderByAsc": True,
    }
