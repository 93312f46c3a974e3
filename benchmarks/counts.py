"""How much there is to read: modules, lines, functions and importers of both packages, one row each.

Usage: python -m benchmarks.counts [MODULE ...]

With names, also the modules of the project that each of them opens, in the order of their imports.
"""

import argparse
import ast
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console

from pipeline.dvc.code import file_of, module_names, project_imports

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules whose imports are listed")
    console = Console(highlight=False, soft_wrap=True)
    names = module_names()
    packages = sorted({".".join(name.split(".")[:2]) for name in names if "." in name and is_in_package(name)})
    rows = [row_of(package, [name for name in names if is_within(name, package)]) for package in packages]
    rows += [row_of(whole, [name for name in names if is_within(name, whole)]) for whole in ("charlstm", "pipeline")]
    rows.append(row_of("both", names))
    console.print(pd.DataFrame(rows).to_string(index=False))
    single = [name for name, importers in importers_of(names).items() if importers == 1]
    console.print(f"\n{len(single)} modules with one importer: {', '.join(single)}")
    for module in parser.parse_args().modules:
        console.print(f"\n{module}: {', '.join(sorted(project_imports(module)))}")


def row_of(label: str, names: list[str]) -> dict[str, object]:
    """Counts of these modules; a line of code is neither blank, nor a comment, nor of a docstring."""
    files = [file_of(name) for name in names]
    lines = [file.read_text().splitlines() for file in files]
    functions = [length for file in files for length in function_lengths(file)]
    code = [line.strip() for file in files for line in code_lines(file)]
    return {
        "package": label,
        "modules": sum(file.name != "__init__.py" for file in files),
        "lines": sum(map(len, lines)),
        "code": len(code),
        "chars a code line": round(sum(map(len, code)) / max(1, len(code)), 1),
        "longest file": max(map(len, lines)),
        "median function": statistics.median(functions or [0]),
        "longest function": max(functions, default=0),
    }


def code_lines(file: Path) -> Iterator[str]:
    """Lines of a file that are code."""
    text = file.read_text()
    prose = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(text.splitlines(), start=1):
        if number not in prose and line.strip() and not line.lstrip().startswith("#"):
            yield line


def function_lengths(file: Path) -> Iterator[int]:
    """Lines of each function, with its docstring."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, FUNCTION):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def importers_of(names: list[str]) -> dict[str, int]:
    """How many modules import each; those that are started themselves, as stages are, are left out."""
    importers = Counter(imported for name in names for imported in project_imports(name))
    return {name: importers[name] for name in names if "__main__" not in file_of(name).read_text()}


def is_in_package(name: str) -> bool:
    """Whether a module lies in a package of its own below `charlstm` or `pipeline`."""
    return len(name.split(".")) > 2


def is_within(name: str, package: str) -> bool:
    """Whether a module is of a package."""
    return name == package or name.startswith(f"{package}.")


if __name__ == "__main__":
    main()
