"""Columns and x axis of MLflow's page, and its address."""

from charlstm.tracking.view import page, view_state

LOSSES = {
    "train/nats_per_char": 1.3,
    "windowed_100/nats_per_char": 1.5,
    "windowed_100/bits_per_char": 2.1,
    "stateful/nats_per_char": 1.4,
}


def test_columns_are_losses_and_what_differs() -> None:
    params = [{"train.seed": "1", "train.epochs": "2"}, {"train.seed": "2", "train.epochs": "2"}]
    state = view_state([LOSSES, {}], params)
    losses = ["metrics.`windowed_100/nats_per_char`", "metrics.`stateful/nats_per_char`"]
    assert state["selectedColumns"] == [*losses, "params.`train.epochs`", "params.`train.seed`"]
    assert state["columnOrder"] == ["attributes.`Run Name`", *state["selectedColumns"]]
    assert set(state["columnWidths"]) == {"attributes.`Run Name`", *losses}
    assert "globalLineChartConfig" not in state
    assert (state["orderByKey"], state["orderByAsc"]) == (losses[0], True)  # the best first


def test_the_recipe_the_cost_and_one_column_for_the_corpus() -> None:
    metrics = [{**LOSSES, "model/num_parameters": 5.0, "train/seconds": 9.0}, LOSSES]
    rates = {"train.learning_rate": "0.01", "train.muon.learning_rate": "0.02", "train.optimizer": "muon"}
    params = [
        {
            **rates,
            "train.epochs": "2",
            "download.name": name,
            "download.source": name,
            "sample.seeds": name,
            "model.x": name,
        }
        for name in "ab"
    ]
    state = view_state(metrics, params, [{"recipe": "quick · epochs 2"}, {}])
    recipe, _, _, *rest = state["selectedColumns"]
    assert recipe == "tags.`recipe`" and rest == [
        "params.`train.epochs`",
        "params.`train.muon.learning_rate`",
        "metrics.`model/num_parameters`",
        "metrics.`train/seconds`",
        "tags.`corpus`",
        "params.`model.x`",
    ]
    adamw = view_state([{}], [{**rates, "train.optimizer": "adamw"}])
    assert adamw["selectedColumns"] == ["params.`train.learning_rate`"]


def test_charts_open_with_the_loss_and_the_rest_is_folded() -> None:
    state = view_state([{**LOSSES, "validation/nats_per_char": 1.5, "alone": 1.0, "system/cpu": 2.0}], [{}])
    sections = {one["name"]: one["display"] for one in state["compareRunSections"]}
    assert list(sections)[0] == "loss" and [name for name, is_open in sections.items() if is_open] == ["loss"]
    assert {"train", "stateful", "windowed_100", "Model metrics", "System metrics"} <= sections.keys()
    opened = state["compareRunSections"][0]["uuid"]
    assert [(one["metricKey"], one["type"], one["metricSectionId"]) for one in state["compareRunCharts"]] == [
        ("validation/nats_per_char", "LINE", opened),
        ("train/nats_per_char", "LINE", opened),
    ]
    assert state["isAccordionReordered"]  # else MLflow sorts sections by name
    assert "compareRunCharts" not in view_state([{"alone": 1.0}], [{}])


def test_a_parameter_that_only_some_runs_have_differs() -> None:
    assert view_state([{}, {}], [{"a": "1"}, {}])["selectedColumns"] == ["params.`a`"]
    many = [{f"p{index}": str(run) for index in range(99)} for run in range(2)]
    assert len(view_state([{}, {}], many)["selectedColumns"]) == 8


def test_curves_are_over_the_characters_seen() -> None:
    for name in ("chars_seen", "train/chars_seen"):
        chart = view_state([{**LOSSES, name: 5.0}], [{}])["globalLineChartConfig"]
        assert chart == {"xAxisKey": "metric", "selectedXAxisMetricKey": name, "lineSmoothness": 0}


def test_the_address_is_that_of_the_right_view() -> None:
    address = "http://host/mlflow/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=charlstm"
    assert page("http://host/mlflow/", "7", is_shared=True) == address
    assert page("http://host", "7", is_shared=False) == "http://host/#/experiments/7/runs?workflowType=machine_learning"
