"""Columns and x axis of MLflow's page, and its address."""

from charlstm.tracking.shared_view import page, view_state

LOSSES = {
    "loss/training": 1.3,
    "windowed_100/nats_per_char": 1.5,
    "windowed_100/bits_per_char": 2.1,
    "stateful/nats_per_char": 1.4,
}


def test_what_decides_comes_first_and_fits_on_a_screen() -> None:
    metrics = [
        {**LOSSES, "train/num_parameters": 5.0, "train/seconds": 9.0, "train/chars_seen": 3.0},
        LOSSES,
    ]
    params = [
        {
            "train.epochs": "2",
            "download.name": name,
            "sample.seeds": name,
            "model.x": name,
            "train.seed": "1",
        }
        for name in "ab"
    ]
    state = view_state(metrics, params)
    losses = ["metrics.`stateful/nats_per_char`", "metrics.`windowed_100/nats_per_char`"]
    cost = ["params.`train.epochs`", "metrics.`train/num_parameters`", "metrics.`train/seconds`"]
    assert state["selectedColumns"] == [*losses, "tags.`recipe`", *cost, "params.`model.x`"]
    assert state["columnOrder"] == ["attributes.`Run Name`", *state["selectedColumns"]]
    assert (state["orderByKey"], state["orderByAsc"]) == (losses[0], True)  # the best first
    assert (
        set(state["columnWidths"]) == set(state["columnOrder"])
        and sum(state["columnWidths"].values()) < 1_400
    )
    axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": "train/chars_seen", "lineSmoothness": 0}
    assert state["globalLineChartConfig"] == axis


def test_curves_of_losses_are_opened_and_the_machine_comes_last() -> None:
    state = view_state([{**LOSSES, "loss/validation": 1.5, "alone": 1.0, "system/cpu": 2.0}], [{}])
    sections = [(one["name"], one["display"]) for one in state["compareRunSections"]]
    assert sections == [
        ("loss", True), ("train", True), ("stateful", False), ("windowed_100", False), ("Model metrics", False),
        ("System metrics", False),
    ]  # fmt: skip
    assert state["isAccordionReordered"]  # else MLflow sorts sections by name


def test_a_parameter_that_only_some_runs_have_differs() -> None:
    assert view_state([{}, {}], [{"a": "1"}, {}])["selectedColumns"][-1] == "params.`a`"
    many = [{f"p{index}": str(run) for index in range(99)} for run in range(2)]
    assert (
        len([name for name in view_state([{}, {}], many)["selectedColumns"] if ".`p" in name]) == 8
    )


def test_the_address_is_that_of_the_right_view() -> None:
    address = "http://host/mlflow/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=charlstm"
    assert page("http://host/mlflow/", "7", is_shared=True) == address
    assert (
        page("http://host", "7", is_shared=False)
        == "http://host/#/experiments/7/runs?workflowType=machine_learning"
    )
