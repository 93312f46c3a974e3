"""Columns and x axis of MLflow's page, and its address."""

from charlstm.tracking.shared_view import page, view_state

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
    assert state["selectedColumns"] == [*losses, "params.`train.seed`"]
    assert state["columnOrder"] == ["attributes.`Run Name`", *losses, "params.`train.seed`"]
    assert set(state["columnWidths"]) == {"attributes.`Run Name`", *losses}
    assert "globalLineChartConfig" not in state
    assert (state["orderByKey"], state["orderByAsc"]) == (losses[0], True)  # the best first


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
