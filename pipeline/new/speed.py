"""How fast this machine trains, measured before a recipe is proposed: what is asked, and the answer."""

import json
import logging
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import TrainingError
from charlstm.files.documents import read_json
from charlstm.params import Params
from pipeline.dvc.paths import train_command

log = logging.getLogger("charlstm")

TIMING = "pipeline.new.timing"  # times the steps, in the processes that would train
REQUEST, ANSWER = "request.json", "answer.json"


class Request(NamedTuple):
    """A training that could be proposed."""

    params: Params
    most_seconds: float  # of a step: where one takes longer, the requests that follow are not answered
    num_teachers: int = 0  # models of these sizes, which are to write a text


class Speed(NamedTuple):
    """How fast a training is, with all its processes."""

    seconds_per_step: float
    validated_per_second: float  # ids
    written_per_second: float  # ids that the teachers write


def measure(requests: Sequence[Request], vocab_size: int) -> list[Speed]:
    """Time a few steps of each, on the hardware that stage train would use.

    Raises:
        TrainingError: one cannot be trained here. The message has the last line of what its process said.
    """
    log.info("timing steps of %d models at most, for about half a minute ...", len(requests))
    with tempfile.TemporaryDirectory(prefix="charlstm-") as name:
        folder = Path(name)
        rows = [(params.model_dump(mode="json"), *rest) for params, *rest in requests]
        (folder / REQUEST).write_text(json.dumps([vocab_size, rows]))
        command = train_command(TIMING, name)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise TrainingError(f"training steps could not be timed: {(lines or [f'exit code {done.returncode}'])[-1]}")
        return [Speed(*row) for row in read_json(folder / ANSWER)]
