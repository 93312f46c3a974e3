"""Which processes are launchers, by their command lines."""

import psutil
import pytest

from pipeline.stage import interruption
from pipeline.stage.interruption import is_launcher


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/venv/bin/python /venv/bin/dvc repro", True),
        ("/usr/bin/python3.11 -m dvc repro train", True),
        ("python -m pipeline.launch accelerate launch -m pipeline.train", True),
        ("python /venv/bin/accelerate launch --quiet -m pipeline.train", True),
        ("python -u -m torch.distributed.run -m pipeline.train", True),
        ("torchrun --nproc_per_node 2 -m pipeline.train", True),
        ("/venv/bin/python /venv/bin/charlstm tune --minutes 3", True),
        ("python -m pipeline.cli tune", True),
        ("python -m pipeline.cli recipe tune", False),
        ("python -m pipeline.distillation.teacher tune 1", False),
        ("python -m pipeline.distillation.teacher dvc 1", False),
        ("python -m pipeline.train", False),
        ("", False),
    ],
)
def test_a_launcher_is_told_by_its_program(monkeypatch: pytest.MonkeyPatch, command: str, expected: bool) -> None:
    monkeypatch.setattr(interruption, "command_of", lambda process: command.split())
    assert is_launcher(psutil.Process()) == expected
