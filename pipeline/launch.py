"""Runs a launcher (`accelerate launch ...`, `torchrun ...`) and keeps what it loses: signals and exit codes.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but a request
to stop reaches the training processes, nothing is left behind, and the exit code is theirs (2: bad input; 75:
interrupted, try again) where `accelerate launch` has 1 for everything.
"""

import logging
import sys
from collections.abc import Sequence

from pipeline.common.exit_codes import EXIT_BAD_INPUT
from pipeline.common.former import with_former
from pipeline.common.launching import launch
from pipeline.common.stage import guarded
from pipeline.doctor.examination import examine_training

log = logging.getLogger("charlstm")

TRAININGS = {"pipeline.train", "pipeline.distillation.teacher"}


def main(command: Sequence[str]) -> int:
    """Run `command` to its end; the exit code."""
    if not command:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    return with_former(lambda: guarded(lambda: _launch(command)))


def _launch(command: Sequence[str]) -> int:
    """What would stop the training is said before its processes start: they take seconds, and each would say it."""
    if not TRAININGS.isdisjoint(command):
        findings = examine_training()
        for finding in findings:
            log.log(logging.ERROR if finding.is_error else logging.WARNING, " ".join(finding.text.split("\n")))
        if any(finding.is_error for finding in findings):
            return EXIT_BAD_INPUT
    return launch(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
