"""Imports between modules, and the dependencies of stages."""

import re

import pytest
from ruamel.yaml import YAML

from tests.support.layers import (
    LAYERS,
    VIEWS,
    closure,
    file_of,
    imported_names,
    is_in,
    module_names,
)
from tests.support.projects import PACKAGES, ROOT

STAGES = ("check", "download", "split", "encode", "train", "evaluate", "sample")

ONLY_IN = {
    "accelerate": {"charlstm.training.processes"},
    "mlflow": {
        *("charlstm.tracking.client", "charlstm.tracking.publish"),
        *("charlstm.tracking.registered_model", "charlstm.tracking.served_model"),
    },
    "dvc": set[str](),
    "matplotlib": {"charlstm.evaluation.plots"},
    "numba": {"charlstm.generation.kernels"},
    "onnx": {"charlstm.onnx_export"},
    "onnxruntime": {"charlstm.onnx_export"},
}
# Other modules of `lineage` are for commands.
FOR_STAGES = tuple(f"pipeline.lineage.{name}" for name in ("git", "mlflow_run", "provenance"))
SHARED = ("pipeline.run", "pipeline.recipes", *FOR_STAGES)
OF_COMMANDS = ("pipeline.commands", "pipeline.new", "pipeline.arguments", "pipeline.lineage")
PURE = ("charlstm.model.", "charlstm.optimization.")
PURE_MAY_NOT_IMPORT = {"accelerate", "dvc", "mlflow", "os", "pandas", "pydantic", "ruamel", "sys"}
HAS_PARAMS = re.compile(r"charlstm\.params(\.\w*Params)?")
KNOW_PARAMS = {
    "charlstm.training.loop",
    "charlstm.training.learner",
    "charlstm.training.sizes",
}


def layer_of(module: str) -> int:
    """Return the number of the library's layer that has the module."""
    name = module.split(".")[1]
    return next(layer for layer, names in enumerate(LAYERS) if name in names)


def violations(module: str, source: str) -> list[str]:
    """Return the forbidden imports in `source`, the text of `module`."""
    package, _, name = module.partition(".")
    known = set(module_names())
    found = []
    for imported in sorted(imported_names(source)):
        target = max({imported, imported.rpartition(".")[0]} & known, key=len, default="")
        top = imported.partition(".")[0]
        if package == "charlstm" and top == "pipeline":
            found.append(f"{module} imports {imported}: the library never imports the pipeline")
        if package == "charlstm" != module and target.startswith("charlstm."):
            is_same_package = target.split(".")[1] == name.partition(".")[0]
            if not is_same_package and layer_of(target) >= layer_of(module):
                found.append(f"{module} imports {imported}: that is no layer below")
        if (
            module.startswith(SHARED)
            and target.startswith("pipeline.")
            and not target.startswith(SHARED)
        ):
            found.append(f"{module} imports {imported}: what stages share knows no stage")
        if name in STAGES and target.removeprefix("pipeline.") in STAGES:
            found.append(f"{module} imports {imported}: no stage imports another")
        if name in STAGES and target.startswith(OF_COMMANDS) and target not in FOR_STAGES:
            found.append(f"{module} imports {imported}: that is for commands")
        if top in ONLY_IN and module not in ONLY_IN[top]:
            found.append(f"{module} imports {imported}: only {ONLY_IN[top] or 'tests'} may")
        if module.startswith(PURE) and top in PURE_MAY_NOT_IMPORT:
            found.append(f"{module} imports {imported}: it is pure torch")
        if package == "charlstm" and HAS_PARAMS.fullmatch(imported) and module not in KNOW_PARAMS:
            found.append(f"{module} imports {imported}: parameters stop at the pipeline")
    return found


@pytest.mark.parametrize("module", module_names())
def test_imports_keep_the_rules(module: str) -> None:
    assert violations(module, (ROOT / file_of(module)).read_text()) == []


def test_every_module_of_the_library_has_a_layer() -> None:
    names = {module.split(".")[1] for module in module_names() if module.startswith("charlstm.")}
    assert names == {name for layer in LAYERS for name in layer}


def test_the_library_neither_prints_nor_reads_the_environment() -> None:
    library = [module for module in module_names() if module.startswith("charlstm")]
    assert len(library) > 40
    forbidden = re.compile(r"\bprint\(|os\.environ|getenv|from_env|expandvars|sys\.argv")
    for module in library:
        assert not forbidden.search((ROOT / file_of(module)).read_text()), module


DVC = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())


def test_the_pipeline_has_its_stages_in_order() -> None:
    assert tuple(DVC["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_code_that_decides_its_bytes(stage: str) -> None:
    """A stage declares all its imports except views, so that an edit of a view changes no stage."""
    decisive = {module for module in closure(f"pipeline.{stage}", VIEWS) if module not in PACKAGES}
    code = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith(PACKAGES)]
    declared = {dep.removesuffix(".py").replace("/", ".") for dep in code}
    assert [module for module in decisive if not is_in(module, declared)] == []
    needless = {name for name in declared if not any(is_in(one, {name}) for one in decisive)}
    assert needless == set()
    assert [view for view in VIEWS if is_in(view, declared)] == []
    assert all((ROOT / dep).exists() for dep in code) and len(code) >= 2


def test_no_hardware_in_commands_and_parameters() -> None:
    commands = " ".join(stage["cmd"] for stage in DVC["stages"].values())
    assert "accelerate launch" in commands
    for word in ("num_processes", "num_machines", "nproc", "--cpu", "gpu", "cuda", "threads"):
        assert word not in commands
        assert word not in re.sub(r"#.*", "", (ROOT / "params.yaml").read_text())
