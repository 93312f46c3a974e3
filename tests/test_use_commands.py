"""`charlstm generate`, `score` and `info`: what they print, on a terminal and elsewhere, and how they end."""

import io
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import charlstm
from benchmarks.projects import ROOT
from pipeline import cli

CLI = [sys.executable, "-m", "pipeline.cli"]
PROMPT = "The model "
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(
    capfdbinary: pytest.CaptureFixture[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> "Run":
    return Run(capfdbinary, caplog, monkeypatch)


class Run:
    """Runs a command in this process: exit code, standard output, standard error with what is logged."""

    def __init__(
        self, capture: pytest.CaptureFixture[bytes], log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capture, self._log, self._monkeypatch = capture, log, monkeypatch

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.main([str(one) for one in arguments])
        found = self._capture.readouterr()
        logged = "".join(f"{record.levelname}: {record.getMessage()}\n" for record in self._log.records)
        self._log.clear()
        return code, found.out.decode(), found.err.decode() + logged


def test_the_text_alone_is_on_standard_output(run: Run, learned: Path) -> None:
    model = charlstm.load(learned)
    options = ["--num-chars", "80", "--temperature", "0.9", "--top-p", "0.98", "--seed", "5", "--model", str(learned)]
    expected = model.generate(PROMPT, num_chars=80, temperature=0.9, top_p=0.98, seed=5, num_texts=3)
    assert run("generate", PROMPT, *options) == (0, f"{expected[0]}\n", "")
    assert run("generate", PROMPT, *options, "--num-texts", "3") == (0, "\n---\n".join(expected) + "\n", "")


def test_a_prompt_is_an_argument_a_file_or_standard_input(run: Run, learned: Path, tmp_path: Path) -> None:
    rest = ["-n", "30", "--seed", "1", "--model", str(learned)]
    expected = run("generate", PROMPT, *rest)
    (tmp_path / "prompt.txt").write_text(f"{PROMPT}\n")
    assert run("generate", "--prompt-file", tmp_path / "prompt.txt", *rest) == expected
    assert run("generate", *rest, stdin=PROMPT.encode()) == expected
    assert run("generate", *rest, stdin=f"{PROMPT}\r\n".encode()) == expected
    assert run("generate", "--prompt-file", "-", *rest, stdin=PROMPT.encode()) == expected
    assert run("generate", *rest) == run("generate", "\n", *rest) != expected


def test_json_has_all_that_makes_the_text_again(run: Run, learned: Path) -> None:
    code, out, _ = run("generate", PROMPT, "--num-texts", "2", "--stop", "a b", "--json", "--model", learned)
    rows = [json.loads(line) for line in out.splitlines()]
    model = charlstm.load(learned)
    assert code == 0 and [row.pop("index") for row in rows] == [0, 1]
    assert {row.pop("model_sha256") for row in rows} == {model.info["model_sha256"]}
    texts = [row.pop("text") for row in rows]
    assert rows[0] == rows[1]
    assert model.generate(**rows[0], num_texts=2) == texts
    _, again, _ = run("generate", PROMPT, "--json", "--model", learned)
    assert json.loads(again)["seed"] != rows[0]["seed"]


def test_what_was_exchanged_is_told_on_standard_error(run: Run, learned: Path) -> None:
    rest = ["-n", "20", "--seed", "1", "--model", str(learned)]
    assert run("generate", "modél", *rest)[0] == 2
    code, out, err = run("generate", "modél", "--unknown", "nearest", *rest)
    assert (code, out) == run("generate", "model", *rest)[:2]
    assert err == "note: characters that the model never saw were exchanged: 'é' -> 'e' (1)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "-n", "x"], "Invalid value for '--num-chars' / '-n'"),
        (["generate", "-n", "0"], "num_chars: expected a whole number of at least 1, got 0"),
        (["generate", "--temperature", "warm"], "Invalid value for '--temperature'"),
        (["generate", "--temperature", "nan"], "temperature: expected a number of at least 0, got nan"),
        (["generate", "--top-k", "0"], "top_k: expected a whole number of at least 1, got 0"),
        (["generate", "--top-p", "1.1"], "top_p: expected a number above 0 and at most 1, got 1.1"),
        (["generate", "--min-p", "-1"], "min_p: expected a number from 0 to 1, got -1"),
        (["generate", "--seed", "-1"], "seed: expected a whole number of at least 0, below 2**63, got -1"),
        (["generate", "--num-texts", "0"], "num_texts: expected a whole number of at least 1, got 0"),
        (["generate", "--stop", ""], "stop: expected a text of at least one character"),
        (["generate", "--stop", "Ж"], "stop: the model never writes the characters 'Ж'"),
        (["generate", "--unknown", "guess"], "unknown: expected error, nearest or skip, got 'guess'"),
        (["generate", ""], "prompt: expected at least one character, e.g. a newline"),
        (["generate", "Ж"], "prompt: the model never saw the characters 'Ж'"),
        (["generate", "\udcff"], "prompt: expected UTF-8"),
        (["generate", "a", "--prompt-file", "b"], "expected either a PROMPT or --prompt-file FILE, got both"),
        (["generate", "--prompt-file", "nowhere"], "nowhere: No such file or directory"),
        (["generate", "a", "b"], "Got unexpected extra argument"),
        (["score", "nowhere"], "nowhere: No such file or directory"),
        (["score", "/"], "/: Is a directory"),
        (["score", "-"], "expected a text to score, found an empty one"),
        (["score", "--lines", "-1"], "Invalid value for '--lines'"),
        (["score", "--unknown", "guess"], "unknown: expected error, nearest or skip, got 'guess'"),
        (["info", "nowhere"], "nowhere/config.json: cannot read the model"),
    ],
)
def test_bad_input_is_one_line(run: Run, learned: Path, arguments: list[str], message: str) -> None:
    model = [] if arguments[0] == "info" else ["--model", str(learned)]
    code, out, err = run(*arguments, *model)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("ERROR: ") and message in line


@pytest.mark.parametrize("command", ["generate", "score", "info"])
def test_a_missing_model_is_one_line(run: Run, command: str) -> None:
    code, _, err = run(command, "--model", "no/where", stdin=b"abc")
    assert code == 2 and err.startswith("ERROR: no/where/config.json: cannot read the model") and err.count("\n") == 1


def test_a_score_is_the_loss_that_evaluate_found(run: Run, trained: Path) -> None:
    text, model = trained / "Datasets/split/val.txt", trained / "artifacts/model"
    code, out, _ = run("score", text, "--json", "--model", model)
    found = json.loads(out)
    measured = json.loads((trained / "artifacts/evaluate/metrics.json").read_text())["stateful"]
    assert code == 0 and found["num_chars"] == measured["num_chars"]
    for name in ("nats_per_char", "bits_per_char", "perplexity"):
        assert found[name] == pytest.approx(measured[name], abs=1e-6)
    _, table, _ = run("score", text, "--model", model)
    assert f"nats/char   {measured['nats_per_char']:.4f}\n" in table
    assert run("score", "--json", "--model", model, stdin=text.read_bytes())[1] == out


def test_the_most_surprising_lines_come_with_their_numbers(run: Run, learned: Path, text: str) -> None:
    code, out, _ = run("score", "--lines", "3", "--model", learned, stdin=text.encode())
    rows = out[out.index("most surprising first\n") :].splitlines()[1:]
    expected = charlstm.load(learned).score(text).most_surprising(3)
    assert code == 0 and len(rows) == 3
    for row, passage in zip(rows, expected, strict=True):
        lines, nats, _ = row.split(maxsplit=2)
        assert lines.partition("-")[0] == str(passage.first_line) and nats == f"{passage.nats_per_char:.2f}"
    assert "surprising" not in run("score", "--lines", "0", "--model", learned, stdin=text.encode())[1]


def test_info_is_what_the_records_of_this_very_model_say(run: Run, trained: Path, tmp_path: Path) -> None:
    folder = trained / "artifacts/model"
    card = json.loads(run("info", folder, "--json")[1])
    metrics = json.loads((trained / "artifacts/evaluate/metrics.json").read_text())
    assert card["losses"] == {name: loss["nats_per_char"] for name, loss in metrics.items()}
    assert card["corpus_sha256"] == (trained / "Datasets/shakespear.txt.sha256").read_text().split()[0]
    assert card["recorded_in"] == "artifacts/samples/review.json"
    assert card["commit"] is None
    alone = shutil.copytree(folder, tmp_path / "alone")
    found = json.loads(run("info", "--model", alone, "--json")[1])
    assert found["model_sha256"] == card["model_sha256"] and found["losses"] is found["params"] is None
    shown = run("info", alone)[1]
    assert re.search(r"^corpus +unknown$", shown, re.MULTILINE) and "no record found that names this model" in shown


def test_info_reads_dvc_lock_and_git(run: Run, recorded: Path, tmp_path: Path, learned: Path) -> None:
    project = shutil.copytree(recorded, tmp_path / "project")
    shutil.rmtree(project / "artifacts/samples")
    card = json.loads(run("info", project / "artifacts/model", "--json")[1])
    results = subprocess.run(["git", "rev-parse", "results"], cwd=project, capture_output=True, text=True)
    assert card["commit"] == results.stdout.strip()
    assert (card["corpus"], card["recorded_in"]) == ("text.txt", "dvc.lock")
    assert set(card["losses"]) == {"windowed_20", "stateful"}
    assert card["params"]["model.hidden_size"] == "16"
    (project / "artifacts/evaluate/metrics.json").write_text("{}")  # no longer what the lock names
    assert json.loads(run("info", project / "artifacts/model", "--json")[1])["losses"] is None
    shutil.rmtree(project / "artifacts/model")
    shutil.copytree(learned, project / "artifacts/model")
    assert json.loads(run("info", project / "artifacts/model", "--json")[1])["recorded_in"] is None


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, arguments: Sequence[str | Path], **env: str) -> None:
        self._end, other = pty.openpty()
        environment = {**ENVIRONMENT, **env}
        command = [*CLI, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True
        )
        os.close(other)
        self.shown = ""

    def read(self, until: int = sys.maxsize, seconds: float = 60) -> str:
        """All that was shown, when it is `until` characters long or the command has ended."""
        deadline = time.monotonic() + seconds
        while len(self.shown) < until and time.monotonic() < deadline:
            try:
                if select.select([self._end], [], [], 0.1)[0]:
                    self.shown += os.read(self._end, 65536).decode()
            except OSError:  # the other end is closed
                break
        return self.shown

    def end(self) -> int:
        """The exit code."""
        self.read()
        os.close(self._end)
        return self.process.wait(timeout=60)


def test_a_terminal_shows_the_prompt_dimmed_then_the_text_and_the_seed(learned: Path) -> None:
    terminal = Terminal(["generate", PROMPT, "-n", "60", "--model", learned])
    assert terminal.end() == 0
    match = re.fullmatch(r"\x1b\[2m(.*)\x1b\[0m(.*)\r\nagain: --seed (\d+)\r\n", terminal.shown, re.DOTALL)
    assert match is not None and match[1] == PROMPT
    expected = charlstm.load(learned).generate(PROMPT, num_chars=60, seed=int(match[3]))
    assert match[2].replace("\r\n", "\n") == expected


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_stream_leaves_the_terminal_in_order(learned: Path, number: signal.Signals) -> None:
    terminal = Terminal(["generate", PROMPT, "-n", "100000000", "--model", learned])
    terminal.read(until=300)
    terminal.process.send_signal(number)
    assert terminal.end() == 130
    assert re.search(r"\r\nagain: --seed \d+\r\n$", terminal.shown)
    assert "Traceback" not in terminal.shown and "ERROR" not in terminal.shown
    assert terminal.shown.count("\x1b[") == 2  # dimmed, and not


@pytest.mark.slow
def test_a_terminal_shows_surprise_in_colors_unless_told_otherwise(learned: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "text.txt").write_text(text[:400])
    colored, plain = (
        Terminal(["score", tmp_path / "text.txt", "--model", learned], **env) for env in ({}, {"NO_COLOR": "1"})
    )
    assert colored.end() == plain.end() == 0
    assert "\x1b[33m" in colored.shown and "\x1b[3" not in plain.shown
    for shown in (colored.shown, plain.shown):
        bare = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r\n", "\n")
        assert text[:400].rstrip() in bare and bare.startswith("nats of a character:  less than 1  1 or more ")


@pytest.mark.parametrize("count", [pytest.param("200", marks=pytest.mark.slow), "300000"])
def test_a_pipe_that_nobody_reads_any_more_ends_it_without_a_word(learned: Path, count: str) -> None:
    command = [*CLI, "generate", PROMPT, "-n", count, "--seed", "1", "--model", str(learned)]
    line = charlstm.load(learned).generate(PROMPT, num_chars=200, seed=1).partition("\n")[0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().decode() == f"{line}\n"
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode in (0, 141), err) == (True, b"")


@pytest.mark.slow
def test_a_full_disk_is_one_line(learned: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*CLI, "generate", PROMPT, "--model", str(learned)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)
    assert (done.returncode, done.stderr) == (2, "ERROR: No space left on device\n")


@pytest.mark.slow
def test_it_needs_no_project_and_little_time(learned: Path, tmp_path: Path) -> None:
    """Beyond the import of torch, which is most of it."""
    seconds: dict[str, float] = {}
    text = [*CLI, "generate", PROMPT, "--model", str(learned)]
    commands = {"torch": [sys.executable, "-c", "import torch"], "text": text}
    for name, command in [*commands.items()] * 2:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, stdin=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # others may use the cores
        seconds[name] = min(spent, seconds.get(name, spent))
    assert seconds["text"] < seconds["torch"] + 1
    assert list(tmp_path.iterdir()) == []
