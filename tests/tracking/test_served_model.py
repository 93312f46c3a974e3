"""The champion in processes that know nothing of this project: loaded, asked, served over HTTP."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from charlstm.generation.sampler import Request, Sampler
from charlstm.model.model_folder import load_model
from charlstm.sampling import Sampling
from charlstm.tracking.registered_model import requirements
from tests.support.registries import keep_compiled, new_run, sha256_of, whole_chain
from tests.support.servers import free_port

ROW = {"prompt": "def ", "num_chars": 40, "temperature": 0.5, "top_k": 20, "top_p": 0.9, "seed": 3}
BAD_ROWS = {
    "row 1: unknown key 'temprature'; known are": {"prompt": "a", "temprature": 1},
    "row 1: temperature: expected a number from 0 to 1e38, got -1": {
        "prompt": "a",
        "temperature": -1,
    },
    "row 1: prompt: the model never saw the characters 'Ж' (U+0416": {"prompt": "Ж"},
    "row 1: prompt: expected at least one character": {"prompt": ""},
    "row 1: top_p: expected a number above 0 and at most 1, got nan": {
        "prompt": "a",
        "top_p": float("nan"),
    },
    "expected at most 100,000 characters in all rows together": {
        "prompt": "a",
        "num_chars": 100_000,
    },
}
LOAD_AND_ASK = """
import json, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[4]))
import mlflow, pandas as pd
assert "charlstm" not in sys.modules
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/charlstm@champion")
import charlstm
rows, bad = json.loads(sys.argv[2]), json.loads(sys.argv[3])
frame = pd.DataFrame([*rows, {"prompt": rows[0]["prompt"]}])
kept = pd.DataFrame([{**rows[0], "stop": rows[1]["stop"], "keep_stop": True}] * 2)
errors = []
for one in [*bad, pd.DataFrame(bad[:1])]:
    try:
        errors.append(str(model.predict(one if isinstance(one, pd.DataFrame) else [one])))
    except mlflow.exceptions.MlflowException as error:
        errors.append(f"{error.error_code} {error}")
found = {"rows": model.predict(rows), "frame": model.predict(frame), "errors": errors, "code": charlstm.__file__}
print(json.dumps({**found, "kept": model.predict(kept), "inputs": model.metadata.get_input_schema().to_dict()}))
"""


def expected(folder: Path, row: dict[str, Any]) -> dict[str, str]:
    """The library's own text, and why it ended."""
    model, vocab, _ = load_model(folder, "gates")
    given = {
        name: value for name, value in row.items() if name in Sampling._fields and value is not None
    }
    sampling = Sampling(**{**given, "stop": tuple(given.get("stop", ()))})
    (found,) = Sampler(model, vocab).generate([Request(row["prompt"], sampling)])
    return {"text": found.text, "reason": found.reason}


def environment(**more: str) -> dict[str, str]:
    """That of a user who forbids pickles, and has the project on no path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept |= {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", **more}


def log(uri: str, folder: Path, artifacts: str | None) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment_id = str(client.create_experiment("tests", artifacts))
    whole_chain(client, new_run(client, experiment_id), folder, sha256_of(folder))


def needless() -> list[str]:
    """Modules of no package that the model's `requirements.txt` names, or that these need."""
    names, needed = (
        [line.partition("==")[0] for line in requirements()],
        {"charlstm"},
    )  # which the model brings
    while names:
        name = normal(names.pop())
        if name not in needed:
            needed.add(name)
            with suppress(PackageNotFoundError):  # of another system, or of an extra
                names += [
                    re.split(r"[^\w.-]", one)[0]
                    for one in requires(name) or []
                    if "extra ==" not in one
                ]
    found = [
        name
        for name, packages in packages_distributions().items()
        if needed.isdisjoint(map(normal, packages))
    ]
    assert {"dvc", "pooch", "typer"} <= set(found)
    return [*found, "pipeline", "benchmarks"]


def normal(name: str) -> str:
    """Of the ways to spell a package's name, the usual one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_fresh_process_loads_the_champion_without_pickles_our_project_and_packages_that_it_does_not_name(
    trained: Path, blank_store: Path, tmp_path: Path
) -> None:
    folder, uri = trained / "artifacts/model", f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    log(uri, folder, (tmp_path / "artifacts").as_uri())
    (stored,) = (tmp_path / "artifacts/models").glob("*/artifacts")
    keep_compiled(stored)
    (tmp_path / "empty").mkdir()
    whole = expected(folder, ROW)["text"]
    stopped = {**ROW, "stop": ["zzz", whole[20:23]]}
    arguments = [uri, *map(json.dumps, ([ROW, stopped], list(BAD_ROWS.values()), needless()))]
    command = [sys.executable, "-I", "-c", LOAD_AND_ASK, *arguments]
    done = subprocess.run(
        command, cwd=tmp_path / "empty", env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["code"].startswith(str(tmp_path / "artifacts"))
    assert found["rows"] == [expected(folder, ROW), expected(folder, stopped)]
    assert [row["reason"] for row in found["rows"]] == ["length", "stop"]
    assert found["frame"] == [*found["rows"], expected(folder, {"prompt": "def "})]
    assert found["kept"] == [expected(folder, {**stopped, "keep_stop": True})] * 2
    assert found["kept"][0]["text"] == found["rows"][1]["text"] + whole[20:23]
    assert len(found["errors"]) == len(BAD_ROWS) + 1
    for line, error in zip([*BAD_ROWS, next(iter(BAD_ROWS))], found["errors"], strict=True):
        assert error.startswith(f"INVALID_PARAMETER_VALUE {line}")
        assert "\n" not in error
    (schema,) = found["inputs"]
    assert {name for name, one in schema["properties"].items() if one["required"]} == {"prompt"}
    assert list((tmp_path / "empty").iterdir()) == []


@contextmanager
def server(folder: Path, health: str, *command: str, **env: str) -> Iterator[str]:
    """The address of an MLflow server that runs in `folder`."""
    port = str(free_port())
    where = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    with (folder / f"{health}.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *where],
            cwd=folder,
            env=environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env),
            stdout=output,
            stderr=output,
            start_new_session=True,  # MLflow leaves its own children behind
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{health}", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / f"{health}.log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, content: object) -> tuple[int, dict[str, Any]]:
    """The status and the answer."""
    header = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", json.dumps(content).encode(), header)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_the_champion_is_served_and_refuses_bad_requests_with_one_line(
    trained: Path, blank_store: Path, tmp_path: Path
) -> None:
    """Logged to a real `mlflow server`, which stores the artifacts; served by a real `mlflow models serve`."""
    folder, uri = trained / "artifacts/model", f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    store = ["--backend-store-uri", uri, "--artifacts-destination", f"{tmp_path}/files"]
    serve = [
        "models",
        "serve",
        "--model-uri",
        "models:/charlstm@champion",
        "--env-manager",
        "local",
    ]
    with server(tmp_path, "health", "server", *store) as tracking:
        log(tracking, folder, None)
        with server(tmp_path, "ping", *serve, MLFLOW_TRACKING_URI=tracking) as url:
            assert ask(url, {"inputs": [ROW]}) == (200, {"predictions": [expected(folder, ROW)]})
            answers = {line: ask(url, {"inputs": [row]}) for line, row in BAD_ROWS.items()}
            malformed: list[object] = [
                {"inputs": ROW},
                {"inputs": ["a"]},
                ROW,
                {"instances": [ROW]},
                [],
            ]
            others = [ask(url, content) for content in malformed]
    assert len(answers) >= 4
    for line, (status, answer) in answers.items():
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert line in answer["message"]
    assert [status for status, _ in others] == [400] * len(others)
    assert not [
        one
        for _, one in [*answers.values(), *others]
        if "stack_trace" in one or "Traceback" in str(one)
    ]
