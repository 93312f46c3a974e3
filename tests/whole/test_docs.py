"""Documents: our commands and links exist, the plan is the tree, the README is short."""

import os
import re
import shlex

import pytest

from charlstm.errors import ParamsError
from pipeline.run.stage import STAGES
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

MAKEFILE = (ROOT / "Makefile").read_text()
MAX_README_LINES = 142

COMMANDS = sorted(set().union(*map(commands_of, PAGES.values())))


def problem(command: str) -> str:
    """Return the part of a command that does not exist, if it is ours. Else return nothing."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words.pop(0)
    program, *arguments = words
    match program:
        case "charlstm":
            return problem_of_charlstm(arguments)
        case "make":
            is_known = re.search(rf"^{re.escape(arguments[0])}:", MAKEFILE, re.MULTILINE)
            return "" if is_known else f"no target {arguments[0]}"
        case "dvc":
            return problem_of_overrides(arguments)
        case "sbatch":
            return "" if (ROOT / arguments[-1]).exists() else f"no {arguments[-1]}"
        case "timeout":  # the tutorial's, with a signal and seconds before the command
            return problem(shlex.join(arguments[3:]))
        case "python" | "accelerate" | "torchrun":
            return problem_of_modules(arguments)
    is_missing = "/" in program and not os.access(ROOT / program, os.X_OK)
    return f"no program {program}" if is_missing else ""


def problem_of_modules(arguments: list[str]) -> str:
    """Return a module of ours after `-m`, or an option of it, that does not exist."""
    for place, flag in enumerate(arguments[:-1]):
        module, *options = arguments[place + 1 :]
        if flag == "-m" and module.split(".")[0] in (*PACKAGES, "benchmarks"):
            if module == "pipeline":
                return "" if options[0] in STAGES else f"no stage {options[0]}"
            file = ROOT / f"{module.replace('.', '/')}.py"
            if not file.exists():
                return f"no module {module}"
            source = file.read_text()
            for option in options:
                is_ours = option.startswith("--") and module != "pipeline.launch"
                if is_ours and f'"{option}"' not in source:
                    return f"no option {option} of {module}"
    return ""


def problem_of_overrides(arguments: list[str]) -> str:
    """Return the error of the parameters after `-S`. Of several values, try the first."""
    changes = [value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "-S"]
    changes = [change if "[" in change else change.split(",")[0] for change in changes]
    try:
        compose(ROOT, changes)
    except ParamsError as error:
        return str(error)
    return ""


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 60 and all(map(commands_of, PAGES.values()))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one_that_exists(command: str) -> None:
    assert problem(command) == ""


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


def slugs(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", text).replace(" ", "-") for text in texts}


def links_of(page: str) -> list[str]:
    """Return the targets of a page's links and pictures, except on the web."""
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


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links_of(README)}
    assert {file.resolve() for file in DOCUMENTS[1:]} <= linked


def plan() -> dict[str, str]:
    """Return the paths of the plan in docs/design.md, with their descriptions."""
    (tree,) = (
        block
        for block in blocks(PAGES["docs/design.md"], "text")
        if block.startswith("params.yaml")
    )
    found = {}
    above = [""]
    for line in tree.splitlines():
        (found_parts,) = re.findall(r"^( *)(\S+) *(.*)$", line)
        indent, name, description = found_parts
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
