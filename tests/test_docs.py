"""The README is executable: its commands parse, its tree is the tree, its numbers are the committed ones."""

import json
import os
import re
import shlex
import subprocess
from typing import Any

import pandas as pd
import pytest
from accelerate.commands.launch import launch_command_parser
from dvc.cli.parser import get_main_parser
from stages import PUBLISHED_DATA
from torch.distributed.run import get_args_parser as torchrun_parser

from benchmarks import trials
from benchmarks.projects import PACKAGES, ROOT
from benchmarks.recipes import PROTOCOLS
from charlstm.evaluation.published import ORIGINAL_TRAIN_NATS_PER_CHAR, ORIGINAL_VAL_NATS_PER_CHAR
from charlstm.params import load_params

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def commands() -> list[str]:
    """Lines of shell blocks and inline code that start with a program of ours, without comments and redirections."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:make|dvc|python -m|accelerate launch|torchrun) [^`]+)`", README)
    found = [part.strip() for line in lines for part in re.split(" [#>]", line)[0].split("&&")]
    return sorted({command for command in found if command and not command.startswith("source ")})


def test_there_are_commands() -> None:
    assert len(commands()) >= 25


@pytest.mark.parametrize("command", commands())
def test_each_command_is_one_that_exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    match program:
        case "make":
            assert re.search(rf"^{arguments[0]}:", MAKEFILE, re.MULTILINE)
        case "dvc":
            get_main_parser().parse_args(arguments)
        case "python":
            assert arguments[0] == "-m"
            assert (ROOT / f"{arguments[1].replace('.', '/')}.py").exists()
        case "accelerate":
            assert arguments[0] == "launch"
            parsed = launch_command_parser().parse_args(arguments[1:])
            assert parsed.module
            assert (ROOT / f"{parsed.training_script.replace('.', '/')}.py").exists()
        case "torchrun":
            parsed = torchrun_parser().parse_args(arguments)
            assert parsed.module
            assert (ROOT / f"{parsed.training_script.replace('.', '/')}.py").exists()
        case "sbatch":
            assert (ROOT / arguments[0]).exists()
        case "benchmarks/two_nodes.sh" | "benchmarks/slurm.sh":
            assert os.access(ROOT / program, os.X_OK)
        case _:
            pytest.fail(f"what is {program}?")


def test_the_tree_is_the_tree() -> None:
    tree = re.search(r"^```text\n(conf/ .*?)^```", README, re.MULTILINE | re.DOTALL)
    assert tree is not None
    shown = set(re.findall(r"\b\w+\.(?:py|yaml)\b", tree[1]))
    shown_folders = set(re.findall(r"^(\w+)/", tree[1], re.MULTILINE))
    files = {file.name for package in PACKAGES for file in (ROOT / package).rglob("*.py")} - {"__init__.py"}
    assert shown == files | {"params.yaml", "dvc.yaml"}
    assert shown_folders == {*PACKAGES, "benchmarks", "cluster", "conf", "tests"}


def committed(path: str) -> dict[str, Any]:
    """What git has: the working tree's results may be another text's, or gone for the length of a training."""
    done = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_losses_are_the_committed_ones() -> None:
    metrics = committed("artifacts/evaluate/metrics.json")
    rows = re.findall(r"^\| `(\w+)` \| \*\*([\d.]+)\*\* \| ([\d.]+) \|", README, re.MULTILINE)
    assert {protocol for protocol, _, _ in rows} == set(metrics)
    for protocol, nats, bits in rows:
        assert nats == f"{metrics[protocol]['nats_per_char']:.4f}"
        assert bits == f"{metrics[protocol]['bits_per_char']:.4f}"
    train = committed("artifacts/train/metrics.json")
    assert f"{train['num_parameters']:,} parameters, {train['num_epochs']} epochs" in README


def test_the_recipes_are_what_their_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "data_md5", lambda: PUBLISHED_DATA)  # the checkout may be at another text
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d) \| ([\d,]{6,} (?:\| [^|]+){4}) \|$", README, re.MULTILINE)
    assert {name for name, _, _ in rows} >= {"quick", "nanogpt", "small", "best", "original"}
    for name, num_seeds, figures in rows:
        records = [trials.Trial((f"recipe={name}",), seed).record() for seed in range(1, int(num_seeds) + 1)]
        found = pd.DataFrame([record for record in records if record is not None])
        assert len(found) == int(num_seeds), name
        size, seconds, *losses = figures.split(" | ")
        assert size == f"{found['num_parameters'].iloc[0]:,}"
        assert seconds.removesuffix(" on 1 core") == f"{found['train_seconds'].median():,.0f}"
        for protocol, loss in zip(PROTOCOLS, losses, strict=True):
            mean, deviation = found[protocol].mean(), found[protocol].std()
            assert loss == (f"{mean:.4f} ± {deviation:.4f}" if len(found) > 1 else f"{mean:.4f}"), (name, protocol)


def test_the_epochs_of_the_recipe_original_are_what_their_record_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "data_md5", lambda: PUBLISHED_DATA)
    record = trials.Trial(("recipe=original",)).record()
    assert record is not None
    validation = ("validation", ORIGINAL_VAL_NATS_PER_CHAR, record["by_epoch"])
    training = ("training", ORIGINAL_TRAIN_NATS_PER_CHAR, record["train_by_epoch"])
    for side, theirs, ours in (validation, training):
        cells = [" | ".join(f"{loss:.4f}" for loss in losses) for losses in (theirs, ours)]
        assert f"\n| {side}, published | {cells[0]} |\n| recipe `original` | {cells[1]} |\n" in README


def test_default_values_in_the_table_are_those_of_the_file() -> None:
    flat = load_params(ROOT / "params.yaml").flat()
    row = re.compile(r"^\| [^|]+ \| `((?:model|train)\.\w+(?:\.\w+)?)`[^|]* \| [^|]* \| ([\d.]+)", re.MULTILINE)
    rows = row.findall(README)
    assert len(rows) >= 7
    for name, default in rows:
        assert float(default) == flat[name], name


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 3
    assert all((ROOT / link).exists() for link in links)
