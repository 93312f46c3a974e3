"""Runs a launcher (`accelerate launch ...`, `torchrun ...`) and keeps what it loses: signals and exit codes.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but a request
to stop reaches the training processes, nothing is left behind, and the exit code is theirs (2: bad input; 75:
interrupted, try again) where `accelerate launch` has 1 for everything.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pipeline.doctor.examination import examine_training
from pipeline.dvc.previous_outputs import with_previous_outputs
from pipeline.stage.exit_codes import EXIT_BAD_INPUT
from pipeline.stage.launching import launch
from pipeline.stage.stage import guarded

log = logging.getLogger("charlstm")

TRAININGS = {"pipeline.train", "pipeline.distillation.teacher"}


def main(command: Sequence[str]) -> int:
    """Run `command` to its end; the exit code."""
    if not command:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    return with_previous_outputs(lambda: guarded(lambda: _launch(command)))


def _launch(command: Sequence[str]) -> int:
    """What would stop the training is said before its processes start: they take seconds, and each would say it."""
    if not TRAININGS.isdisjoint(command):
        findings = examine_training()
        for finding in findings:
            log.log(logging.ERROR if finding.is_error else logging.WARNING, " ".join(finding.text.split("\n")))
        if any(finding.is_error for finding in findings):
            return EXIT_BAD_INPUT
    return launch(with_values(command))


def with_values(command: Sequence[str]) -> list[str]:
    """`accelerate launch` with the values that it chooses itself, and says so in a warning of eight lines.

    Where the user has configured it or passed values, the command stays as it is.
    """
    words, is_module = list(command), "accelerate.commands.launch" in command[:3]
    end = list(command).index("accelerate.commands.launch") + 1 if is_module else 2
    is_plain = words[end : end + 2] == ["--quiet", "-m"] or words[end : end + 1] == ["-m"]
    if not (is_module or words[:2] == ["accelerate", "launch"]) or not is_plain or _is_configured():
        return words
    num_devices = _num_devices()
    values = ["--num_processes", str(max(num_devices, 1)), *(["--multi_gpu"] if num_devices > 1 else [])]
    values += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*words[:end], *values, *words[end:]]


def _is_configured() -> bool:
    """Whether `accelerate config` was here: the path is Accelerate's, whose import takes a second."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    folder = Path(os.environ.get("HF_HOME", cache)).expanduser() / "accelerate"
    return any((folder / f"default_config.{kind}").is_file() for kind in ("yaml", "json"))


def _num_devices() -> int:
    """GPUs and their like. torch is asked in a process of its own: this one stays small while training runs."""
    if version("torch").endswith("+cpu"):
        return 0
    code = "import torch; print(torch.accelerator.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
