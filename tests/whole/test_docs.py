"""Documents are executable: commands parse, links lead somewhere, the plan is the tree, numbers are those on record."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from torch.distributed.run import get_args_parser as torchrun_parser

from charlstm.errors import ParamsError
from tests.support.documented import (
    DOCUMENTS,
    PAGES,
    README,
    blocks,
    commands_of,
    problem_of_charlstm,
    prose,
)
from tests.support.projects import PACKAGES, ROOT, compose
from tests.support.stages import dvc

MAKEFILE = (ROOT / "Makefile").read_text()
MAX_README_LINES = 142
MODEL_FILE = "artifacts/model/model.safetensors"
SCRIPTS = (
    "benchmarks/two_nodes.sh",
    "benchmarks/slurm.sh",
    "benchmarks/gpu_acceptance.sh",
    ".ci/run",
)
INSTALL = "pip install --editable 'PATH/TO/THE/CHECKOUT[onnx]'"
OTHERS = (
    "source .venv/bin/activate",
    "git checkout HEAD .",
    "git pull",
    INSTALL,
)  # programs not ours


COMMANDS = sorted(set().union(*map(commands_of, PAGES.values())))


def problem(command: str) -> str:
    """What is wrong with a command; nothing if its program would take it."""
    if command in OTHERS:
        return ""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words.pop(0)
    program, *arguments = words
    try:
        match program:
            case "git" | "sha256sum" if arguments[0] in ("add", "commit", "checkout", MODEL_FILE):
                return ""
            case "sleep":
                return ""
            case "timeout":  # of the tutorial: a signal, and seconds before the command
                return problem(shlex.join(arguments[3:]))
            case "make":
                target = arguments[0]
                return (
                    ""
                    if re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE)
                    else f"no target {target}"
                )
            case "dvc":
                get_main_parser().parse_args(arguments)
                presets = [word for word in arguments if word.startswith(("recipe=", "corpus="))]
                return f"DVC knows no {presets[0]}" if presets else problem_of_overrides(arguments)
            case "charlstm":
                return problem_of_charlstm(arguments)
            case "python":
                return problem_of_module(arguments)
            case "accelerate":
                if arguments[0] != "launch":
                    return f"what is accelerate {arguments[0]}?"
                parsed = launch_command_parser().parse_args(arguments[1:])
            case "curl":
                return "" if json.loads(arguments[-1]) else "asks nothing"
            case "torchrun":
                parsed = torchrun_parser().parse_args(arguments)
            case "sbatch":
                return "" if (ROOT / arguments[-1]).exists() else f"no {arguments[-1]}"
            case _:
                return (
                    ""
                    if program in SCRIPTS and os.access(ROOT / program, os.X_OK)
                    else f"what is {program}?"
                )
    except (SystemExit, DvcParserError) as error:
        return f"not understood: {error!r}"
    if not parsed.module:
        return "without -m"
    return problem_of_module(["-m", parsed.training_script])


def problem_of_module(arguments: list[str]) -> str:
    """Of `python -m MODULE ...`, whose options must be named in the source of a module of ours."""
    if arguments[0] != "-m":
        return "without -m"
    module, options = arguments[1], arguments[2:]
    if module.split(".")[0] not in (*PACKAGES, "benchmarks"):
        return "" if importlib.util.find_spec(module) else f"no module {module}"
    file = ROOT / f"{module.replace('.', '/')}.py"
    if not file.exists():
        return f"no {file.name}"
    if module == "pipeline.launch":
        return problem(shlex.join(options)) if options else ""
    unknown = [
        option
        for option in options
        if option.startswith("--") and f'"{option}"' not in file.read_text()
    ]
    return f"no option {unknown[0]}" if unknown else ""


def problem_of_overrides(arguments: list[str]) -> str:
    """Of what follows each `-S`: does it compose? Of a list to sweep over, the first value."""
    changes = [value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "-S"]
    changes = [change if "[" in change else change.split(",")[0] for change in changes]
    try:
        compose(ROOT, changes)
    except ParamsError as error:
        return str(error)
    return ""


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 60
    for name, page in PAGES.items():
        assert commands_of(page), name


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one_that_exists(command: str) -> None:
    assert problem(command) == ""


@pytest.mark.parametrize(
    "command",
    [
        "make everything",
        "charlstm trace a b",
        "dvc exp run -S train.learning_rates=1",
        "python -m pipeline.nothing",
        "python -m benchmarks.kills --counts 3",
        "python -m pipeline.launch torchrun --nprocs 2 -m pipeline.train",
        "accelerate launch -m pipeline.training",
        "sbatch cluster/nothing.sbatch",
        "git push",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert problem(command) != ""


@pytest.mark.slow
def test_the_search_by_optuna_makes_experiments(copy: Path) -> None:
    pytest.importorskip("optuna")
    (program,) = blocks(PAGES["docs/recipes.md"], "python")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", program.replace("n_trials=20", "n_trials=2")]
    found = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1].startswith("{'rate': ")
    assert len(set(dvc(copy, "exp", "list", "--name-only").split())) == 2


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


def slugs(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings; a repeated one gets a number."""
    found: dict[str, int] = {}
    anchors = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        kept = "".join(
            char for char in text if char in " -_" or unicodedata.category(char)[0] in "LNM"
        )
        slug = kept.replace(" ", "-")
        anchors.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return anchors


def links_of(page: str) -> list[str]:
    """Where links and pictures lead, but for the web."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [link for link in found if "://" not in link]


def dead_links(name: str, page: str) -> list[str]:
    dead = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        is_here = target.exists() and target.resolve().is_relative_to(ROOT.resolve())
        if not is_here or (anchor and anchor not in slugs(target.read_text() if path else page)):
            dead.append(link)
    return dead


def test_links_lead_somewhere() -> None:
    assert sum(len(links_of(page)) for page in PAGES.values()) >= 40
    assert {name: dead for name, page in PAGES.items() if (dead := dead_links(name, page))} == {}


def test_a_dead_link_is_noticed() -> None:
    for link in ("nothing.md", "lstm.md#nothing", "#nothing", "../../outside.md"):
        assert dead_links("docs/data.md", f"# Data\n[here]({link}) [and](#data)") == [link]


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links_of(README)}
    assert {file.resolve() for file in DOCUMENTS[1:]} <= linked


def plan() -> dict[str, str]:
    """The paths of the plan in docs/design.md, with their descriptions; a folder ends with a slash."""
    (tree,) = (
        block
        for block in blocks(PAGES["docs/design.md"], "text")
        if block.startswith("params.yaml")
    )
    found, above = {}, [""]
    for line in tree.splitlines():
        indent, name, description = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()  # type: ignore[union-attr]
        depth = len(indent) // 2
        above[depth + 1 :] = [f"{above[depth]}{name}"]
        found[above[depth + 1]] = description
    return found


def test_the_plan_has_every_folder_and_what_it_has_is_there() -> None:
    shown = set(plan())
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert len(folders) > 15
    assert {f"{folder.relative_to(ROOT).as_posix()}/" for folder in folders} <= shown
    assert {path for path in shown if not (ROOT / path).exists()} == set()
