"""Size of the project: a table of packages, and totals with their limits.

Usage: python -m benchmarks.counts

A token is a token of Python's `tokenize`, so a comment or a docstring counts as one. Line breaks
inside brackets and empty lines are tokens, too: shorter lines raise the number a little.
A code line is neither empty nor a comment nor part of a docstring. Its characters are counted
without indentation. A function's length is the number of lines from `def` to its end. A module has
code lines, so that most `__init__.py` do not count.
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from benchmarks.harness import console, new_parser, print_table
from tests.support.projects import captured

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("charlstm", "pipeline")
FOLDERS = (*PACKAGES, "tests", "benchmarks")
MAX_LINE_CHARS = 100
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
COLUMNS = (
    *("package", "modules", "tokens", "lines", "code lines", "characters a line"),
    *("median function", "longest"),
)


class Count(NamedTuple):
    """Size of Python files."""

    num_modules: int
    num_tokens: int
    num_lines: int
    code_lines: list[str]
    functions: list[int]  # the number of lines of each function

    def row(self, name: str) -> list[object]:
        """Return a row of the table of packages."""
        density = statistics.fmean(map(len, self.code_lines or [""]))
        median = statistics.median(self.functions or [0])
        return [
            *(name, self.num_modules, self.num_tokens, self.num_lines, len(self.code_lines)),
            *(f"{density:.1f}", f"{median:g}", max(self.functions, default=0)),
        ]


def main() -> int:
    """Print two Markdown tables."""
    new_parser(__doc__).parse_args()
    packages: dict[str, list[Path]] = {}
    for file in python_files(*PACKAGES):
        packages.setdefault(file.parent.relative_to(ROOT).as_posix(), []).append(file)
    total = count(python_files(*PACKAGES))
    rows = [count(files).row(name) for name, files in packages.items()]
    print_table(COLUMNS, [*rows, total.row("together")])
    console.print()
    print_table(("what", "is", "at most"), totals(total))
    return 0


def totals(total: Count) -> Iterator[tuple[str, object, str]]:
    """Yield the rows of the table of totals: a name, a number and its limit."""
    lines = [line for file in python_files(*FOLDERS) for line in lines_of(file)]
    num_long = sum(len(line) > MAX_LINE_CHARS for line in lines)
    longest_file = max(len(lines_of(file)) for file in python_files(*FOLDERS))
    unrelated = [unrelated_assignments(text_of(file)) for file in python_files(*PACKAGES)]
    templates = [
        file
        for package in PACKAGES
        for ending in ("html", "js", "css")
        for file in (ROOT / package).rglob(f"*.{ending}")
    ]
    num_template_lines = sum(len(lines_of(file)) for file in templates)
    scripts = [*python_files("benchmarks"), *(ROOT / "benchmarks").glob("*.sh")]
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    num_words = sum(len(text_of(file).split()) for file in pages)

    yield "tokens of `charlstm` and `pipeline`", total.num_tokens, "112,000"
    yield "tokens of tests", count(python_files("tests")).num_tokens, "127,326"
    yield "lines of HTML, JavaScript and CSS", num_template_lines, ""
    yield "lines of benchmarks", sum(len(lines_of(file)) for file in scripts), ""
    yield "words of README, CONTRIBUTING and docs", num_words, "19,000"
    yield "parameters", num_values(YAML(typ="safe").load(ROOT / "params.yaml")), "62"
    yield "commands of `charlstm`", num_commands(), "13"
    yield "lines over 100 characters", num_long, "0"
    yield "assignments of several unrelated values in a line", sum(map(len, unrelated)), "0"
    yield "longest file, lines", longest_file, "350"
    yield "median function, lines", f"{statistics.median(total.functions):g}", "8"
    yield "longest function, lines", max(total.functions), "60"


def python_files(*folders: str) -> list[Path]:
    """Return the Python files in folders of the project."""
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def text_of(file: Path) -> str:
    """Return the text of a file."""
    return file.read_text(encoding="utf-8")


def lines_of(file: Path) -> list[str]:
    """Return the lines of a file."""
    return text_of(file).splitlines()


def count(files: Iterable[Path]) -> Count:
    """Return the size of Python files."""
    num_modules = 0
    num_tokens = 0
    num_lines = 0
    code_lines: list[str] = []
    functions: list[int] = []
    for file in files:
        text = text_of(file)
        documented = set[int]()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions.append(len(lines_in(node)))
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
                documented.update(lines_in(node.body[0]))
        lines = [line.strip() for line in text.splitlines()]
        own = [
            line
            for number, line in enumerate(lines, 1)
            if number not in documented and line and not line.startswith("#")
        ]
        num_modules += bool(own)
        num_tokens += num_tokens_of(text)
        num_lines += len(lines)
        code_lines += own
    return Count(num_modules, num_tokens, num_lines, code_lines, functions)


def num_tokens_of(text: str) -> int:
    """Return the number of tokens."""
    return sum(1 for _ in tokenize.generate_tokens(io.StringIO(text).readline))


def lines_in(node: ast.stmt) -> range:
    """Return the numbers of the lines of a function or a docstring."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def unrelated_assignments(text: str) -> list[int]:
    """Return the lines that assign several unrelated values at once.

    A swap is allowed, and so is the unpacking of array elements.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Assign(targets=[ast.Tuple() as target], value=ast.Tuple() as value):
                has_star = any(isinstance(one, ast.Starred) for one in value.elts)
                is_swap = parts_of(target) == parts_of(value)
                is_unpacking = all(isinstance(one, ast.Subscript) for one in value.elts)
                if not (has_star or is_swap or is_unpacking):
                    found.append(node.lineno)
    return found


def parts_of(node: ast.Tuple) -> set[str]:
    """Return the elements of a tuple as source code."""
    return {ast.unparse(one) for one in node.elts}


def num_values(document: object) -> int:
    """Return the number of values in nested sections."""
    return sum(map(num_values, document.values())) if isinstance(document, dict) else 1


def num_commands() -> int:
    """Return the number of commands that `charlstm --help` lists."""
    listed = captured([sys.executable, "-m", "pipeline.cli", "--help"]).stdout
    return len(re.findall(r"^\W* (\w+)  +[A-Z]", listed, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
