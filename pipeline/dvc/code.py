"""The code that decides a stage's outputs: all that the stage imports, but for the views and what only they import.
`dvc.yaml` declares it.

Usage: python -m pipeline.dvc.code          after a change of imports: write the dependencies into dvc.yaml
       python -m pipeline.dvc.code --keep   after a change that changes no output: write today's hashes into dvc.lock

The second is a promise, so prove it first: `dvc repro` of both commits, on one machine, gives the same hashes.
"""

import argparse
import ast
import io
import re
import sys
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.provenance.hashes import files_of, folder_md5, md5

ROOT = Path(__file__).parents[2]
PACKAGES = ("charlstm", "pipeline")
FILE = ROOT / "dvc.yaml"
# What shows results or says who may run: packages and modules that decide no byte of an output, though stages import
# them. `params` and the like only refuse; DVC tracks the values themselves.
VIEWS = (
    "charlstm.errors",
    "charlstm.language_model",
    "charlstm.onnx_export",
    "charlstm.params",
    "charlstm.sections",
    "charlstm.files.documents",
    "charlstm.files.lock",
    "charlstm.files.urls",
    "charlstm.tracking",
    "pipeline",
)
# And what of those packages decides something all the same: stages do, where they read and write, and how threads are
# used, which rounds.
DECISIVE = (
    "charlstm.report",
    "pipeline.dvc.paths",
    "pipeline.hardware",
    *(f"pipeline.{stage}" for stage in ("download", "split", "encode", "train", "evaluate", "sample")),
)
DATA = {"charlstm.report.page": "charlstm/report/templates"}  # what modules read beside their code


def main(argv: Sequence[str] | None = None) -> int:
    """Write `dvc.yaml`, or `dvc.lock`."""
    parser = argparse.ArgumentParser(description="Tell DVC which code decides the outputs of each stage.")
    parser.add_argument("--keep", action="store_true", help="today's code makes the outputs that dvc.lock has")
    keep = parser.parse_args(argv).keep
    FILE.write_text(with_code(FILE.read_text()))
    lock = FILE.with_suffix(".lock")
    if keep and lock.exists():
        lock.write_text(with_hashes(lock.read_text(), FILE.read_text()))
    return 0


def with_code(text: str) -> str:
    """`text`, that of `dvc.yaml`, with the code of each stage after its data."""
    yaml, stream = YAML(), io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 10**6
    document = yaml.load(text)
    for stage in document["stages"].values():
        *_, module = re.findall(r"\bpipeline\.[\w.]+", stage["cmd"])
        stage["deps"] = [*(dep for dep in stage["deps"] if not _is_code(dep)), *code_of(module)]
    yaml.dump(document, stream)
    return stream.getvalue()


def with_hashes(text: str, stages: str) -> str:
    """`text`, that of `dvc.lock`, with the code that `stages`, the text of `dvc.yaml`, declares, as it is now."""
    yaml = YAML()
    yaml.preserve_quotes = True
    declared = YAML(typ="safe", pure=True).load(stages)["stages"]
    document = yaml.load(text)
    for name, entry in document["stages"].items():
        code = filter(_is_code, declared[name]["deps"])
        data = [dep for dep in entry["deps"] if not _is_code(dep["path"])]
        entry["deps"] = sorted([*data, *map(_hashed, code)], key=lambda dep: dep["path"])
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


@cache
def code_of(module: str) -> list[str]:
    """The files and folders that decide what `python -m module` writes, by name; a folder if all of it does.

    Packages' own files have no code.
    """
    modules = {name for name in module_names() if not is_package(name)}
    views = {name for name in modules if is_view(name)}
    decisive = (closure(module, views) & modules) - views
    folders = {name.rpartition(".")[0] for name in decisive if name.count(".") > 1}
    whole = {folder for folder in folders if not any(name.startswith(f"{folder}.") for name in modules - decisive)}
    whole -= {folder for folder in whole if any(folder.startswith(f"{other}.") for other in whole)}
    single = {name for name in decisive if not any(name.startswith(f"{folder}.") for folder in whole)}
    data = [DATA[name] for name in single & DATA.keys()]
    return sorted(
        {*(folder.replace(".", "/") for folder in whole), *(file_of(name).as_posix() for name in single), *data}
    )


def is_view(module: str) -> bool:
    """Whether `module` decides no byte of any stage's outputs."""

    def is_in(names: Sequence[str]) -> bool:
        return any(f"{module}.".startswith(f"{name}.") for name in names)

    return is_in(VIEWS) and not is_in(DECISIVE)


def views() -> list[str]:
    """All modules that decide no byte of an output of any stage."""
    return [name for name in module_names() if not is_package(name) and is_view(name)]


@cache
def module_names() -> list[str]:
    """Every module of the project, dotted."""
    return [name_of(file.relative_to(ROOT)) for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    """The dotted name of a file, relative to the root."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def file_of(module: str) -> Path:
    """The module's file, relative to the root."""
    path = Path(*module.split("."))
    return path / "__init__.py" if is_package(module) else path.with_suffix(".py")


def is_package(module: str) -> bool:
    """Whether `module` is a folder."""
    return (ROOT / Path(*module.split("."))).is_dir()


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


@cache
def project_imports(module: str) -> set[str]:
    """The project's modules that `module` imports itself."""
    names = imported_names((ROOT / file_of(module)).read_text())
    candidates = ({name, name.rpartition(".")[0]} & set(module_names()) for name in names)
    return {max(names, key=len) for names in candidates if names}


def closure(module: str, leaves: Collection[str] = ()) -> set[str]:
    """All project modules that run when `module` is imported, packages included; not what only `leaves` import."""
    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += project_imports(name) if name not in leaves else ()
            if package := name.rpartition(".")[0]:  # its `__init__.py` runs before the module
                pending.append(package)
    return seen


def _is_code(path: str) -> bool:
    return path.partition("/")[0] in PACKAGES


def _hashed(path: str) -> dict[str, Any]:
    """The entry of a file or folder, as DVC writes it."""
    whole = ROOT / path
    if whole.is_file():
        return {"path": path, "hash": "md5", "md5": md5(whole), "size": whole.stat().st_size}
    sizes = [file.stat().st_size for file in files_of(whole)]
    return {"path": path, "hash": "md5", "md5": folder_md5(whole), "size": sum(sizes), "nfiles": len(sizes)}


if __name__ == "__main__":
    sys.exit(main())
