"""`charlstm generate` and `score`: their output, and one line for each mistake."""

import json
from pathlib import Path

import pytest

import charlstm
from tests.support.commands import Run

PROMPT = "The model "


def test_the_text_alone_is_on_standard_output(run: Run, learned: Path) -> None:
    model = charlstm.load(learned)
    options = [
        "--num-chars=80",
        "--temperature=0.9",
        "--top-p=0.98",
        "--seed=5",
        f"--model={learned}",
    ]
    expected = model.generate(
        PROMPT, num_chars=80, temperature=0.9, top_p=0.98, seed=5, num_texts=3
    )
    assert run("generate", PROMPT, *options) == (0, f"{expected[0]}\n", "")
    several = "\n---\n".join(expected) + "\n"
    assert run("generate", PROMPT, *options, "--num-texts", "3") == (0, several, "")


def test_a_prompt_is_an_argument_a_file_or_standard_input(
    run: Run, learned: Path, tmp_path: Path
) -> None:
    rest = ["-n", "30", "--seed", "1", "--model", str(learned)]
    expected = run("generate", PROMPT, *rest)
    (tmp_path / "prompt.txt").write_text(f"{PROMPT}\n")
    assert run("generate", "--prompt-file", tmp_path / "prompt.txt", *rest) == expected
    assert run("generate", *rest, stdin=PROMPT.encode()) == expected
    assert run("generate", *rest, stdin=f"{PROMPT}\r\n".encode()) == expected
    assert run("generate", "--prompt-file", "-", *rest, stdin=PROMPT.encode()) == expected
    assert run("generate", *rest) == run("generate", "\n", *rest) != expected


def test_json_has_all_that_makes_the_text_again(run: Run, learned: Path) -> None:
    code, out, _ = run(
        "generate", PROMPT, "--num-texts", "2", "--stop", "a b", "--json", "--model", learned
    )
    rows = [json.loads(line) for line in out.splitlines()]
    model = charlstm.load(learned)
    assert code == 0 and [row.pop("index") for row in rows] == [0, 1]
    assert {row.pop("model_sha256") for row in rows} == {model.info["model_sha256"]}
    texts = [row.pop("text") for row in rows]
    reasons = [row.pop("reason") for row in rows]
    assert rows[0] == rows[1]
    again = model.generate(**rows[0], num_texts=2)
    assert again == texts and [one.reason for one in again] == reasons
    _, other, _ = run("generate", PROMPT, "--json", "--model", learned)
    assert json.loads(other)["seed"] != rows[0]["seed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "-n", "x"], "Invalid value for '--num-chars' / '-n'"),
        (["generate", "--stop", "Ж"], "stop: the model cannot generate"),
        (["generate", "\udcff"], "prompt: expected valid UTF-8 text"),
        (["generate", "a", "--prompt-file", "b"], "expected either a PROMPT or --prompt-file FILE"),
        (["score", "/"], "/: Is a directory"),
        (["score", "/dev/zero"], "/dev/zero: expected a text of at most 500,000,000 bytes"),
    ],
)
def test_bad_input_is_one_line(run: Run, learned: Path, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments, "--model", learned)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("ERROR: ") and message in line


def test_a_score_is_the_loss_that_evaluate_found(run: Run, trained: Path) -> None:
    text = trained / "Datasets/split/val.txt"
    model = trained / "artifacts/model"
    code, out, _ = run("score", text, "--json", "--model", model)
    found = json.loads(out)
    measured = json.loads((trained / "artifacts/evaluate/metrics.json").read_text())["stateful"]
    assert code == 0
    for name in ("num_chars", "nats_per_char"):
        assert found[name] == pytest.approx(measured[name], abs=1e-6)
    assert run("score", "--json", "--model", model, stdin=text.read_bytes())[1] == out


def test_the_most_surprising_lines_come_with_their_numbers(
    run: Run, learned: Path, text: str
) -> None:
    code, out, _ = run("score", "--lines", "3", "--model", learned, stdin=text.encode())
    rows = out[out.index("most surprising first\n") :].splitlines()[1:]
    found = charlstm.load(learned).score(text).most_surprising(3)
    assert code == 0 and len(rows) == 3
    for row, passage in zip(rows, found, strict=True):
        assert row.split()[:2] == [str(passage.line), f"{passage.nats_per_char:.2f}"]
    _, out, _ = run("score", "--lines", "0", "--model", learned, stdin=text.encode())
    assert "surprising" not in out
