"""Makes a run true at the end of a stage."""

from charlstm.tracking.runs import UNSENT, RunState, keep, send_or_keep
from pipeline.stage.settings import seconds
from pipeline.stage.tracking_store import state_root, store


def send(stage: str, state: RunState, *, is_here: bool) -> None:
    """Send what the stage knows of a run. What was not done here only waits for `charlstm sync`."""
    folder = state_root() / f"{UNSENT}{stage}-{state.value[:16]}"
    if is_here:
        send_or_keep(store(), folder, state, seconds("CHARLSTM_TRACKING_SECONDS"))
    else:
        keep(folder, state)
