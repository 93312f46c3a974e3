"""How large the project is: a table of packages, totals, and the budgets that they must keep.

Usage: python -m benchmarks.counts

A token is one of Python's `tokenize`: a comment and a docstring are one each. Line breaks of layout (inside brackets,
empty lines) do not count, so no layout changes the number.
A code line is neither empty nor a comment nor part of a docstring. Its characters are counted without indentation. A
function is as long as its lines from `def` to its end. A module has code lines: most `__init__.py` have none.
"""

import ast
import io
import re
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from benchmarks.harness import console, new_parser, print_table

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("charlstm", "pipeline")


class Count(NamedTuple):
    """Of some Python files."""

    num_modules: int
    num_tokens: int
    num_lines: int
    code_lines: list[str]
    functions: list[int]  # the lines of each

    def row(self, name: str) -> list[object]:
        """Of the table of packages."""
        density = statistics.fmean(map(len, self.code_lines or [""]))
        median, longest = statistics.median(self.functions or [0]), max(self.functions, default=0)
        return [
            name,
            self.num_modules,
            self.num_tokens,
            self.num_lines,
            len(self.code_lines),
            f"{density:.1f}",
            f"{median:g}",
            longest,
        ]


def count(files: Iterable[Path]) -> Count:
    """Read and parse them."""
    texts = [file.read_text(encoding="utf-8") for file in files]
    num_modules, code_lines = 0, list[str]()
    functions: list[int] = []
    for text in texts:
        documented = set[int]()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions.append(num_lines_of(node))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
                node
            ):
                documented.update(
                    range(node.body[0].lineno, node.body[0].lineno + num_lines_of(node.body[0]))
                )
        lines = (
            line.strip()
            for number, line in enumerate(text.splitlines(), 1)
            if number not in documented
        )
        code_lines += (own := [line for line in lines if line and not line.startswith("#")])
        num_modules += bool(own)
    num_tokens = sum(map(num_tokens_of, texts))
    return Count(
        num_modules, num_tokens, sum(text.count("\n") for text in texts), code_lines, functions
    )


def num_tokens_of(text: str) -> int:
    """Return the number of tokens, without the line breaks of layout (inside brackets, empty lines)."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type != tokenize.NL for token in tokens)


def num_lines_of(node: ast.stmt) -> int:
    """From `def` to its end, or of a docstring."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def text_of(*patterns: str) -> str:
    """All files below the root that match."""
    return "".join(
        file.read_text(encoding="utf-8")
        for pattern in patterns
        for file in sorted(ROOT.glob(pattern))
    )


def num_values(document: object) -> int:
    """Of nested sections."""
    return sum(map(num_values, document.values())) if isinstance(document, dict) else 1


def num_commands() -> int:
    """Those that `charlstm --help` lists."""
    command = [sys.executable, "-m", "pipeline.cli", "--help"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return len(re.findall(r"^\W* (\w+)  +[A-Z]", listed, re.MULTILINE))


def main() -> int:
    """Print two Markdown tables."""
    new_parser(__doc__).parse_args()
    groups: dict[str, list[Path]] = {}
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        groups.setdefault(file.parent.relative_to(ROOT).as_posix(), []).append(file)
    total = count(file for files in groups.values() for file in files)
    columns = (
        "package",
        "modules",
        "tokens",
        "lines",
        "code lines",
        "characters a line",
        "median function",
        "longest",
    )
    print_table(
        columns,
        [*(count(files).row(name) for name, files in groups.items()), total.row("together")],
    )
    templates = [
        f"{package}/**/*.{ending}" for package in PACKAGES for ending in ("html", "js", "css")
    ]
    num_words = len(text_of("README.md", "CONTRIBUTING.md", "docs/*.md").split())
    console.print()
    rows = (
        ("tokens of `charlstm` and `pipeline`", total.num_tokens, "118,732"),
        ("tokens of tests", count((ROOT / "tests").rglob("*.py")).num_tokens, ""),
        ("lines of HTML, JavaScript and CSS", text_of(*templates).count("\n"), ""),
        (
            "lines of benchmarks",
            text_of("benchmarks/**/*.py", "benchmarks/**/*.sh").count("\n"),
            "",
        ),
        ("words of README, CONTRIBUTING and docs", num_words, "20,000"),
        ("parameters", num_values(YAML(typ="safe").load(ROOT / "params.yaml")), "62"),
        ("commands of `charlstm`", num_commands(), "13"),
        ("median function, lines", f"{statistics.median(total.functions):g}", "8"),
        ("longest function, lines", max(total.functions), "60"),
    )
    print_table(("what", "is", "at most"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
