"""What a user may set in the environment because it has no influence on the result."""

import os

from charlstm.errors import ParamsError

DEFAULT_SECONDS = {
    "CHARLSTM_CHECKPOINT_SECONDS": 30.0,  # from one checkpoint to the next
    "CHARLSTM_TIMEOUT_SECONDS": 60.0,  # a process that says nothing for so long is lost
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": 10.0,  # MLflow's own name and default
    "CHARLSTM_TRACKING_SECONDS": 20.0,  # at the end of a stage, without any sign of MLflow
}


def seconds(name: str) -> float:
    """The value of the variable `name`, or its default.

    Raises:
        ParamsError: it is no positive number.
    """
    value = os.environ.get(name, "")
    try:
        number = float(value or DEFAULT_SECONDS[name])
        if not 0 < number < float("inf"):
            raise ValueError
    except ValueError:
        raise ParamsError(f"{name}: expected a positive number of seconds, got {value!r}") from None
    return number
