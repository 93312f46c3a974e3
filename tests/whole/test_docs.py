"""Documents: our commands and links exist, and the plan is the tree."""

import re
import shlex
from importlib.util import find_spec

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

MAKEFILE = (ROOT / "Makefile").read_text()


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
    modules = re.findall(r"-m ((?:pipeline|benchmarks)\S*)", command)
    return "".join(f"no module {module}" for module in modules if not find_spec(module))


def problem_of_overrides(arguments: list[str]) -> str:
    """Return the error of the parameters after `-S`. Of several values, try the first."""
    changes = [value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "-S"]
    changes = [change if "[" in change else change.split(",")[0] for change in changes]
    try:
        compose(ROOT, changes)
    except ParamsError as error:
        return str(error)
    return ""


def test_each_command_is_one_that_exists() -> None:
    commands = set().union(*map(commands_of, PAGES.values()))
    assert len(commands) >= 60
    assert {command: found for command in commands if (found := problem(command))} == {}


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


def plan() -> set[str]:
    """Return the paths of the plan in docs/design.md."""
    (tree,) = (
        block
        for block in blocks(PAGES["docs/design.md"], "text")
        if block.startswith("params.yaml")
    )
    above = [""]
    found = set()
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        depth = len(indent) // 2
        above[depth + 1 :] = [f"{above[depth]}{name}"]
        found.add(above[-1])
    return found


def test_the_plan_has_every_folder_and_what_it_has_is_there() -> None:
    shown = plan()
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert len(folders) > 15
    assert {f"{folder.relative_to(ROOT).as_posix()}/" for folder in folders} <= shown
    assert {path for path in shown if not (ROOT / path).exists()} == set()
