"""Reads imports out of the source, without running it."""

import ast
from pathlib import Path

from benchmarks.projects import PACKAGES, ROOT


def module_names() -> list[str]:
    """Every module of the project, dotted."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return [name_of(file.relative_to(ROOT)) for file in files]


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def file_of(module: str) -> Path:
    """The module's file, relative to the root."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def packages_of(module: str) -> list[str]:
    """The packages above a module, whose `__init__.py` runs before it."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def imported_names(source: str) -> set[str]:
    """Dotted names that `source` imports anywhere, `from a import b` as `a.b`; not those for type checkers only."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return names


def project_imports(module: str) -> set[str]:
    """The project's modules that `module` imports itself."""
    known, found = set(module_names()), set()
    for name in imported_names((ROOT / file_of(module)).read_text()):
        candidates = {name, name.rpartition(".")[0]} & known
        found |= {max(candidates, key=len)} if candidates else set()
    return found


def closure(module: str) -> set[str]:
    """All project modules that run when `module` is imported, packages included."""
    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += [*project_imports(name), *packages_of(name)]
    return seen
