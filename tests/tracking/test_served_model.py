"""The champion in processes without this project: loaded, asked, served over HTTP."""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from charlstm.generation.sampler import Request, Sampler
from charlstm.model.model_folder import load_model
from charlstm.sampling import Sampling
from charlstm.tracking.registered_model import requirements
from tests.support.projects import PATH, captured
from tests.support.registries import keep_compiled, new_run, sha256_of, whole_chain
from tests.support.servers import served_by

ROW = {"prompt": "def ", "num_chars": 40, "temperature": 0.5, "top_k": 20, "top_p": 0.9, "seed": 3}
BAD_ROWS: dict[str, dict[str, object]] = {
    "row 1: unknown key 'temprature'; expected one of": {"temprature": 1},
    "row 1: prompt: the model never saw the characters 'Ж' (U+0416": {"prompt": "Ж"},
    "row 1: top_p: expected a number above 0 and at most 1, got nan": {"top_p": float("nan")},
    "expected at most 100,000 characters across all rows": {"num_chars": 100_000},
}
BAD_ROWS = {line: {"prompt": "a", **row} for line, row in BAD_ROWS.items()}
# The model's `requirements.txt` names none of these packages.
ABSENT = ["accelerate", "benchmarks", "dvc", "onnx", "pipeline", "pooch", "ruamel", "typer"]
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
found = {
    "rows": model.predict(rows),
    "frame": model.predict(frame),
    "kept": model.predict(kept),
    "errors": errors,
    "code": charlstm.__file__,
    "inputs": model.metadata.get_input_schema().to_dict(),
}
print(json.dumps(found))
"""


def expected(folder: Path, row: dict[str, Any]) -> dict[str, str]:
    """Return the library's own text, and why it ended."""
    model, vocab, _ = load_model(folder, "gates")
    given = {
        name: value for name, value in row.items() if name in Sampling._fields and value is not None
    }
    sampling = Sampling(**{**given, "stop": tuple(given.get("stop", ()))})
    (found,) = Sampler(model, vocab).generate([Request(row["prompt"], sampling)])
    return {"text": found.text, "reason": found.reason}


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid pickles, and remove the project from the path."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def log(uri: str, folder: Path, artifacts: str | None) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment_id = str(client.create_experiment("tests", artifacts))
    whole_chain(client, new_run(client, experiment_id), folder, sha256_of(folder))


def test_a_fresh_process_loads_the_champion_without_packages_of_training(
    trained: Path, blank_store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder #1 with 100 %"
    folder.symlink_to(trained / "artifacts/model")
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    log(uri, folder, (tmp_path / "artifacts").as_uri())
    (stored,) = (tmp_path / "artifacts/models").glob("*/artifacts")
    assert not [file for file in stored.rglob("*") if file.suffix in (".pkl", ".pyc", ".pickle")]
    required = (stored / "requirements.txt").read_text().split()
    assert required == requirements()
    assert f"torch=={version('torch').partition('+')[0]}" in required
    keep_compiled(stored)
    (tmp_path / "empty").mkdir()
    whole = expected(folder, ROW)["text"]
    stopped = {**ROW, "stop": ["zzz", whole[20:23]]}
    rows = ([ROW, stopped], list(BAD_ROWS.values()), ABSENT)
    arguments = [uri, *map(json.dumps, rows)]
    done = captured([sys.executable, "-I", "-c", LOAD_AND_ASK, *arguments], tmp_path / "empty")
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


def ask(url: str, content: object) -> tuple[int, dict[str, Any]]:
    """Return the status and the answer."""
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
    """A real `mlflow server` stores the artifacts, and a real `mlflow models serve` serves them."""
    folder = trained / "artifacts/model"
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    store = ["server", "--backend-store-uri", uri, "--artifacts-destination", f"{tmp_path}/files"]
    address = "models:/charlstm@champion"
    serve = ["models", "serve", "--model-uri", address, "--env-manager", "local"]
    with served_by(store, tmp_path / "server.log", os.environ) as tracking:
        log(tracking, folder, None)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking}
        with served_by(serve, tmp_path / "serve.log", environment, "ping") as url:
            assert ask(url, {"inputs": [ROW]}) == (200, {"predictions": [expected(folder, ROW)]})
            for line, row in BAD_ROWS.items():
                status, answer = ask(url, {"inputs": [row]})
                assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
                assert line in answer["message"] and "Traceback" not in str(answer)
            assert ask(url, ROW)[0] == 400
