"""Views: a changed view leaves the bytes of models and the identity of trainings unchanged."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from pipeline.run.stage import start
from tests.support.layers import VIEWS, file_of, is_in, module_names
from tests.support.projects import write_params
from tests.support.stages import run_stages

MAIN = "run.main_process"
WATCHERS = (
    *(f"{MAIN}.TrainingConsole", f"{MAIN}.EpochTexts", f"{MAIN}.TrainingRecord"),
    *(f"{MAIN}.published_while_training", "lineage.mlflow_run.publish_at_end"),
)


def outputs(project: Path) -> dict[str, bytes]:
    files = [file for file in (project / "artifacts").rglob("*") if file.is_file()]
    return {str(file.relative_to(project)): file.read_bytes() for file in files}


def test_without_tracker_console_and_observers_the_bytes_are_the_same(
    project: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (project / "mlflow.db").unlink()
    for name in WATCHERS:
        monkeypatch.setattr(f"pipeline.{name}", MagicMock())
    run_stages(project, "train", "evaluate", "sample")
    assert not (project / "mlflow.db").exists()
    assert "epoch 1/" not in capsys.readouterr().err
    assert outputs(project) == outputs(trained) and len(outputs(project)) > 10


def edit(file: Path) -> None:
    with file.open("a") as code:
        code.write("# another comment\n")


def test_an_unfinished_training_is_known_by_what_dvc_declares(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)

    def found() -> str:
        return start("train").fingerprint

    first = found()
    views = [file_of(module) for module in module_names() if is_in(module, VIEWS)]
    assert len(views) > 15
    for file in (*views, Path("charlstm/corpus/fetch.py")):
        edit(file)
    # numba's cache is not part of the code.
    Path("charlstm/model/__pycache__").mkdir(exist_ok=True)
    Path("charlstm/model/__pycache__/gates.cpython-311.nbi").write_bytes(b"other times")
    write_params(project, {"sample.temperatures": [0.5]})
    assert found() == first

    seen = {first}
    code = (
        "charlstm/model/gates.py",
        "charlstm/optimization/optimizers.py",
        "pipeline/hardware.py",
    )
    for name in (*code, "Datasets/encoded/SHA256SUMS"):
        edit(Path(name))
        seen.add(found())
    for name, value in (("train.learning_rate", 0.5), ("train.warmup_steps", 3)):
        write_params(project, {name: value})
        seen.add(found())
    write_params(project, {"train.initial": "initial"})
    Path("initial").mkdir()
    for content in ("one", "two"):
        Path("initial/model.safetensors").write_text(content)
        seen.add(found())
    assert len(seen) == 9
