"""Imports between the project's modules: layers of the library, and the views of stages."""

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

from tests.support.projects import PACKAGES, ROOT

LAYERS = (
    ("errors", "seeds", "parameter_names"),
    ("files", "sampling"),
    ("corpus", "text", "history"),
    ("model",),
    ("params",),
    ("evaluation", "optimization", "generation"),
    ("training", "onnx_export", "interpretation"),
    ("tracking", "review"),
    ("language_model",),
)
# Modules that stages import although no output depends on them: they show results, decide who may
# run, or refuse bad values. dvc.yaml declares the parameters and paths themselves.
VIEWS = (
    *("charlstm.errors", "charlstm.params", "charlstm.tracking"),
    *("pipeline.__main__", "pipeline.lineage", "pipeline.recipes", "pipeline.run"),
)


def is_in(module: str, names: Collection[str]) -> bool:
    """Return whether `module` is one of `names` or in one of these packages."""
    return any(f"{module}.".startswith(f"{name}.") for name in names)


@cache
def module_names() -> list[str]:
    """Return the dotted names of all modules and packages of the project."""
    files = [
        file.relative_to(ROOT)
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
    ]
    return [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]


def file_of(module: str) -> Path:
    """Return the module's file, relative to the root."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def imported_names(source: str) -> set[str]:
    """Return the dotted names that `source` imports, except imports for type checkers.

    The name of `from a import b` is `a.b`.
    """
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


@cache
def project_imports(module: str) -> set[str]:
    """Return the project's modules that `module` imports directly."""
    names = imported_names((ROOT / file_of(module)).read_text())
    candidates = ({name, name.rpartition(".")[0]} & set(module_names()) for name in names)
    return {max(names, key=len) for names in candidates if names}


def closure(module: str, without: Collection[str] = ()) -> set[str]:
    """Return `module` and the modules of the project that it imports, except through `without`."""
    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in seen and not is_in(name, without):
            seen.add(name)
            pending += project_imports(name)
    return seen
