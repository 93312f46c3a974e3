"""Columns of MLflow's page of runs."""

from charlstm.tracking.shared_view import view_state


def test_losses_come_first_then_the_cost_then_the_parameters_that_differ() -> None:
    metrics = [{"windowed_100/nats_per_char": 1.5, "stateful/nats_per_char": 1.4}]
    params = [{"model.x": "1", "train.seed": "1"}, {"train.seed": "1"}]
    columns = view_state(metrics, params)["selectedColumns"]
    assert columns == [
        *("metrics.`stateful/nats_per_char`", "metrics.`windowed_100/nats_per_char`"),
        *("tags.`recipe`", "params.`train.epochs`"),
        *("metrics.`train/num_parameters`", "metrics.`train/seconds`", "params.`model.x`"),
    ]
