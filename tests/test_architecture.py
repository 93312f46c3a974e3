"""Who may import whom, and that DVC knows what each stage depends on."""

import re

import pytest
from imports import ROOMS, ROOT, closure, file_of, imported_names, module_names, project_imports
from ruamel.yaml import YAML

STAGES = ("download", "split", "encode", "train", "evaluate", "sample")
PURE = ("gates", "layers", "feed_forward", "dropout", "model", "loss", "schedule")
ONLY_IN = {
    "accelerate": {"charlstm.processes"},
    "mlflow": {"charlstm.tracking"},
    "dvc": set(),
    "matplotlib": {"charlstm.plots"},
    "pydantic": {"charlstm.params", "pipeline.paths"},
}
PURE_MAY_IMPORT = {"torch", "math", "typing", "collections", "charlstm"}
MAX_FILE_LINES = 300


def violations(module: str, source: str) -> list[str]:
    """What is forbidden of the imports in `source`, the text of `module`."""
    room, _, name = module.partition(".")
    found = []
    for imported in sorted(imported_names(source)):
        top, _, rest = imported.partition(".")
        if room == "charlstm" and top == "pipeline":
            found.append(f"{module} imports {imported}: the library never imports the pipeline")
        if room == "pipeline" and top == "pipeline" and name in STAGES and rest.partition(".")[0] in STAGES:
            found.append(f"{module} imports {imported}: no stage imports another")
        if top in ONLY_IN and module not in ONLY_IN[top]:
            found.append(f"{module} imports {imported}: only {ONLY_IN[top] or 'tests'} may")
        if room == "charlstm" and name in PURE and top not in PURE_MAY_IMPORT:
            found.append(f"{module} imports {imported}: it is pure torch")
        if room == "charlstm" and name in PURE and imported.startswith("charlstm.params"):
            found.append(f"{module} imports {imported}: parameters stop at the pipeline")
    return found


@pytest.mark.parametrize("module", module_names())
def test_imports_keep_the_rules(module: str) -> None:
    assert violations(module, (ROOT / file_of(module)).read_text()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("charlstm.model", "from charlstm.params import ModelParams"),
        ("charlstm.model", "import os"),
        ("charlstm.loss", "def f():\n    import pandas"),
        ("charlstm.evaluate", "from accelerate import Accelerator"),
        ("charlstm.history", "import mlflow.entities"),
        ("charlstm.vocab", "from pipeline.paths import Paths"),
        ("pipeline.sample", "from pipeline.train import run"),
        ("pipeline.sample", "from pipeline import evaluate"),
        ("pipeline.report", "import dvc.api"),
    ],
)
def test_a_forbidden_import_is_noticed(module: str, line: str) -> None:
    assert len(violations(module, line)) >= 1


def test_parameters_stop_at_the_pipeline() -> None:
    users = {module for module in module_names() if "charlstm.params" in project_imports(module)}
    assert {module for module in users if module.startswith("charlstm.")} == {"charlstm.train", "charlstm.learner"}


def test_the_library_neither_prints_nor_reads_the_environment() -> None:
    library = [module for module in module_names() if module.startswith("charlstm")]
    assert len(library) > 15
    for module in library:
        source = (ROOT / file_of(module)).read_text()
        assert not re.search(r"\bprint\(|os\.environ|os\.getenv|sys\.argv", source), module


def test_files_hold_one_concept() -> None:
    lengths = {module: len((ROOT / file_of(module)).read_text().splitlines()) for module in module_names()}
    assert {module: length for module, length in lengths.items() if length > MAX_FILE_LINES} == {}


DVC = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())


def test_the_pipeline_has_its_stages_in_order() -> None:
    assert tuple(DVC["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    declared = {dep for dep in DVC["stages"][stage]["deps"] if dep.startswith(ROOMS)}
    assert declared == {str(file_of(module)) for module in closure(f"pipeline.{stage}")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_parameters_it_reads(stage: str) -> None:
    """All but `params.flat()`, which only goes to MLflow."""
    source = (ROOT / f"pipeline/{stage}.py").read_text()
    read = set(re.findall(r"\bparams\.((?!flat)\w+(?:\.implementation)?)", source))
    assert read == set(DVC["stages"][stage]["params"])


def test_no_hardware_in_commands_and_parameters() -> None:
    commands = " ".join(stage["cmd"] for stage in DVC["stages"].values())
    assert "accelerate launch" in commands
    for word in ("num_processes", "num_machines", "nproc", "--cpu", "gpu", "cuda", "threads"):
        assert word not in commands
        assert word not in re.sub(r"#.*", "", (ROOT / "params.yaml").read_text())
