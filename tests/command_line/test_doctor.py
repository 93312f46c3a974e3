"""Planted faults: each yields its line and no other, and all together yield all lines."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import Run
from planted_faults import ALONE, FAULTS, REQUIRED, Fault, write

from benchmarks.projects import LAUNCH, ROOT, write_params
from charlstm.files.lock import exclusive, holder_of
from charlstm.params import load_params
from pipeline.doctor import machine
from pipeline.doctor.examination import examine, examine_training
from pipeline.doctor.finding import Finding, error, readable, warning
from pipeline.dvc.unfinished import CHECKOUT


@pytest.fixture
def project(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # whatever else runs on this machine
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plant([Fault("")], monkeypatch)
    for name, value in {"GLOBAL": "/dev/null", "SYSTEM": "/dev/null"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    for role in ("AUTHOR", "COMMITTER"):
        for name in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{role}_{name}", raising=False)
    for name in ("user.name", "user.email"):
        subprocess.run(["git", "config", name, "a@b"], check=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return copy


def plant(faults: list[Fault], monkeypatch: pytest.MonkeyPatch) -> None:
    # No figures of others, which tiny parameters do not measure.
    write_params(Path(), {"evaluate.published.losses": []} | {k: v for one in faults for k, v in one.params.items()})
    for fault in faults:
        fault.plant()
        for name, value in fault.env.items():
            monkeypatch.setenv(name, value)


def lines() -> list[str]:
    found = examine(lambda: Path(".dvc/cache")).findings
    return [f"{'ERROR' if one.is_error else 'WARNING'}: {one.text}" for one in found]


def is_it(line: str, expected: str) -> bool:
    return re.fullmatch(re.escape(expected).replace("…", ".*"), line, re.DOTALL) is not None


def test_nothing_is_wrong(project: Path, run: Run) -> None:
    assert lines() == []
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert out == "params.yaml: corpus of its own, recipe of its own; fp32: as train.precision says\nnothing is wrong\n"


@pytest.mark.parametrize("name", [*FAULTS, *ALONE])
def test_a_fault_is_a_line(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = {**FAULTS, **ALONE}[name]
    plant([fault], monkeypatch)
    found = lines()
    assert len(found) == 1 and is_it(found[0], fault.line), found


def test_all_faults_are_all_lines_errors_first(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [fault for name, fault in FAULTS.items() if name not in ("package", "version")]
    both = Fault("", plant=lambda: write("pyproject.toml", REQUIRED))
    plant([*faults, both], monkeypatch)
    code, out, err = run("doctor")
    found = err.splitlines()
    expected = [fault.line for fault in FAULTS.values()]
    assert (code, len(found)) == (2, len(expected)) and out.startswith("params.yaml: ")
    assert len(FAULTS) > 10
    for one in expected:
        assert sum(is_it(line, one) for line in found) == 1, one
    kinds = [line.partition(":")[0] for line in found]
    assert kinds == sorted(kinds)


def test_each_wrong_parameter_is_a_line(project: Path) -> None:
    write_params(project, {"train.epochs": "two", "model.hidden_size": -1, "sample.prompts": []})
    assert lines() == [
        "ERROR: params.yaml: model.hidden_size should be greater than 0, got -1; the last commit has 16",
        'ERROR: params.yaml: train.epochs should be a valid integer, got "two"; the last commit has 1',
        'ERROR: params.yaml: sample.prompts should have at least 1 value(s); the last commit has ["\\n", "def "]',
    ]
    assert [one.text for one in examine_training()] == [line.partition(": ")[2] for line in lines()]


def test_another_training_in_this_checkout(project: Path) -> None:
    assert holder_of(CHECKOUT) is None
    with exclusive(CHECKOUT, "a training"):
        (line,) = lines()
    said = f"ERROR: a training in this checkout is under way already, in process {os.getpid()} on …: wait for it, or …"
    assert is_it(line, said)
    assert lines() == []
    write(f"{CHECKOUT}.holder", f"in process {os.getpid()} on here")  # left by one that was killed
    assert lines() == []


def test_prompts_without_ids_are_checked_later(project: Path) -> None:
    write_params(project, {"sample.prompts": ["☃"], "split.val_fraction": 0.2, "evaluate.published.losses": []})
    assert lines() == []


def test_what_dvc_will_encode_anew_is_checked_later(project: Path) -> None:
    """The text was corrected since, or another revision checked out without its data."""
    write_params(project, {"sample.prompts": ["☃"], "evaluate.published.losses": []})
    assert any("never saw" in line for line in lines())
    source = Path(load_params(Path("params.yaml")).download.source)
    source.write_bytes(source.read_bytes() + "☃".encode())
    assert not any("never saw" in line for line in lines())


def test_the_python_of_the_stages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "bin").mkdir()
    git = shutil.which("git")
    assert git is not None
    (project / "bin/git").symlink_to(git)
    monkeypatch.setenv("PATH", f"{project}/bin")
    (line,) = lines()
    assert is_it(
        line, "ERROR: python: expected a `python` in PATH for DVC's stages, found none: `source …activate` first"
    )
    write("bin/python", "#!/bin/sh\necho /usr\n")
    Path("bin/python").chmod(0o755)
    (line,) = lines()
    assert is_it(line, f"WARNING: python: DVC's stages run {project}/bin/python, which is not of this environment: …")
    write("bin/python", f"#!/bin/sh\necho {sys.prefix}\n")  # a shim, as pyenv has
    assert lines() == []


def test_nothing_is_changed(project: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in project.rglob("*") if path.is_file()}

    before = state()
    assert lines() == [] and state() == before


def test_a_server_that_says_nothing_is_given_up_soon(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 9 of a network that is for documentation alone (RFC 5737) never answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@192.0.2.1:9")
    started = time.monotonic()
    (line,) = lines()
    assert time.monotonic() - started < 4 and "secret" not in line
    assert line.startswith("WARNING: tracker: http://192.0.2.1:9: ")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert lines() == []


def test_a_gpu_that_this_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch can use one")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list(machine.check_gpu(tmp_path)) == []
    (tmp_path / "nvidia0").touch()
    (finding,) = machine.check_gpu(tmp_path)
    assert finding.text.startswith(f"gpu: a GPU is here, but torch {version('torch')} ") and not finding.is_error
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list(machine.check_gpu(tmp_path)) == []


def test_the_launcher_asks_first_and_quickly(project: Path) -> None:
    write_params(project, {"sample.prompts": ["☃", "ж"], "train.context_len": 10_000})
    done = subprocess.run(
        [*LAUNCH, sys.executable, "-c", "raise SystemExit('started')", "-m", "pipeline.train"],
        cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = done.stderr.splitlines()
    assert done.returncode == 2 and len(said) == 3 and all(line.startswith("ERROR: ") for line in said), done.stderr


def test_the_launcher_imports_no_torch() -> None:
    heavy = {"torch", "mlflow", "pandas", "accelerate", "dvc"}
    code = f"import sys, pipeline.launch; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_file_that_cannot_be_read_is_a_finding_in_plain_words(tmp_path: Path) -> None:
    def check() -> Iterator[Finding]:
        yield warning((tmp_path / "nowhere").read_text())

    (found,) = readable(check())
    assert found == error(f"{tmp_path / 'nowhere'}: No such file or directory")
