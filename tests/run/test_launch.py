"""What `pipeline.launch` does before it becomes a launcher, and how a stage ends."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from charlstm.files.documents import load_yaml
from pipeline.run.dvc import files_below
from tests.support.projects import LAUNCH, ROOT, Override, write_params
from tests.support.stages import dvc, run_dvc

WITH_DVC = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

GUARDED = """
import sys, time
from pipeline.run.stage import guarded
def work():
    print("working", flush=True)
    time.sleep(float(sys.argv[1]))
    return 0
sys.exit(guarded(work))
"""


def test_a_command_that_cannot_start_or_fails(tmp_path: Path) -> None:
    for command, code in (
        (["no-such-program"], 2),
        ([], 2),
        ([""], 2),
        (["sh", "-c", "exit 7"], 7),
    ):
        done = subprocess.run(
            [*LAUNCH, *command],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "10000 none"), ({"OMP_WAIT_POLICY": "active"}, "none active")]
)
def test_waiting_threads_spin_for_a_short_time_unless_the_user_chose(
    chosen: dict[str, str], expected: str, tmp_path: Path
) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run(
        [*LAUNCH, "sh", "-c", "echo ${GOMP_SPINCOUNT-none} ${OMP_WAIT_POLICY-none}"],
        cwd=tmp_path, env={**kept, **chosen, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == f"{expected}\n", done.stderr


@pytest.mark.parametrize(
    ("stage", "bad"),
    [
        ("split", {"split.document_separator": "stands nowhere"}),
        pytest.param("train", {"train.learning_rate": 1e30}, marks=pytest.mark.slow),
    ],
)
def test_a_stage_that_fails_names_the_command_that_goes_back(
    copy: Path, stage: str, bad: Override
) -> None:
    write_params(copy, bad)
    assert run_dvc(copy, "repro", stage).returncode != 0
    (said,) = re.findall(
        r"removed the outputs of (\w+) before it ran: `(.*)` goes back",
        run_dvc(copy, "repro").stderr,
    )
    assert said[0] == stage
    subprocess.run(said[1], shell=True, cwd=copy, check=True, capture_output=True, env=WITH_DVC)
    assert "up to date" in dvc(copy, "status")


TYPOS: list[Override] = [
    {"train.epochs": -1},
    *(
        {name: "typo"}
        for name in ("split.val_fraction", "encode.min_count", "evaluate.max_chars", "sample.top_k")
    ),
    *(
        {name: -3}
        for name in (
            "model.hidden_size",
            "train.batch_size",
            "train.warmup_steps",
            "train.muon.momentum",
        )
    ),
    *(
        {name: None}
        for name in (
            "download.name",
            "download.source",
            "encode.unit",
            "train.seed",
            "train.optimizer",
        )
    ),
    *(
        {name: 1e40}
        for name in (
            "train.learning_rate",
            "train.weight_decay",
            "sample.num_chars",
            "train.adam_beta1",
        )
    ),
    *(
        {name: []}
        for name in ("sample.prompts", "sample.seeds", "sample.temperatures", "train.muon")
    ),
    *(
        {f"train.{name}": 1}
        for name in ("epochss", "dropout.inputs", "muon.rate", "learningrate", "precision")
    ),
    *({name: "1.0"} for name in ("sample.top_p", "train.ema_decay", "split.test_fraction")),
]


@pytest.mark.parametrize("typos", [TYPOS[:1], pytest.param(TYPOS[1:], marks=pytest.mark.slow)])
def test_a_typo_removes_nothing(copy: Path, typos: list[Override]) -> None:
    """DVC removes the outputs of a stage before the stage can refuse its parameters. So another one runs first."""
    outputs = {
        path: path.read_bytes()
        for folder in ("artifacts", "Datasets")
        for path in files_below(copy / folder)
    }
    assert len(outputs) > 20 and len(TYPOS) == 30
    for typo in typos:
        ((name, value),) = typo.items()
        *sections, last = name.split(".")
        document = load_yaml(ROOT / "params.yaml")
        reduce(getitem, sections, document)[last] = value
        (copy / "params.yaml").write_text(json.dumps(document))
        done = run_dvc(copy, "repro", "train")
        assert done.returncode != 0 and "failed to reproduce 'check'" in done.stderr, (
            typo,
            done.stderr,
        )
        assert f"ERROR: params.yaml: {name} " in done.stderr, (typo, done.stderr)
        assert {path: path.read_bytes() for path in outputs} == outputs, typo


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stage_ends_politely(number: signal.Signals) -> None:
    with guarded_work(60) as process:
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == "ERROR: interrupted\n"
        assert process.returncode == 75


def test_under_nohup_a_stage_outlives_its_terminal() -> None:
    with guarded_work(1, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 0


def guarded_work(seconds: float, *before: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", GUARDED, str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    return process
