"""Rows that ask for texts: what is read, and the text of each error."""

import warnings
from typing import Any

import numpy as np
import pytest

from charlstm.errors import TextRequestError
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab

with warnings.catch_warnings():  # MLflow warns of its own type hints when it is imported
    warnings.simplefilter("ignore")
    from charlstm.tracking.served_model import MAX_ROWS, parse_requests

VOCAB = Vocab.of("abc\n")
KNOWN = "known are prompt, unknown, num_chars, temperature, top_k, top_p, min_p, seed, stop, keep_stop"


def test_a_row_gets_the_defaults_of_what_it_does_not_say() -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "ab"},
        {"prompt": "\n", "num_chars": None, "top_k": None, "seed": None, "temperature": None},
    ]
    assert parse_requests(rows, VOCAB) == [("ab", Sampling()), ("\n", Sampling())]


def test_every_key_is_read_and_whole_floats_are_counts() -> None:
    row = {
        "prompt": "a",
        "num_chars": 40.0,
        "temperature": 0,
        "top_k": np.int64(3),
        "top_p": 0.9,
        "min_p": 0,
        "seed": 2**63 - 1,
        "stop": ["a", "b"],
        "keep_stop": True,
    }
    (request,) = parse_requests([row], VOCAB)
    prompt, sampling = request
    assert (prompt, sampling) == ("a", Sampling(40, 0.0, 3, 0.9, 0.0, 2**63 - 1, ("a", "b"), True))
    assert [type(value) for value in sampling] == [int, float, int, float, float, int, tuple, bool]
    assert parse_requests([{"prompt": "a", "stop": "b"}], VOCAB)[0][1].stop == ("b",)


def test_unknown_characters_are_as_the_rule_says() -> None:
    for rule, prompt in {"nearest": "aac", "skip": "ac"}.items():
        assert parse_requests([{"prompt": "aÁc", "unknown": rule}], VOCAB) == [(prompt, Sampling())]
    for prompt, rule, error in (
        ("ж", "skip", "prompt: expected at least one character"),
        ("ж", "nearest", "prompt: the model knows no characters near to"),
        ("a", "near", "unknown: expected error, nearest or skip, got 'near'"),
    ):
        with pytest.raises(TextRequestError, match=error):
            parse_requests([{"prompt": prompt, "unknown": rule}], VOCAB)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "temprature": 1}, f"unknown key 'temprature'; {KNOWN}"),
        ({"num_chars": 4}, "prompt: expected at least one character, e.g. a newline"),
        ({"prompt": float("nan")}, "prompt: expected a text, got nan"),
        ({"prompt": "aЖ\ud800"}, "prompt: the model never saw the characters 'Ж' (U+0416, once), '\\ud800' (U+D800"),
        ({"prompt": "a", "num_chars": "4"}, "num_chars: expected a whole number"),
        ({"prompt": "a", "temperature": float("inf")}, "temperature: expected a number from 0 to 1e38, got inf"),
        ({"prompt": "a", "stop": ["a", "Ж"]}, "stop: the model never writes the characters 'Ж'"),
        ({"prompt": "a" * 100_000}, "expected at most 100,000 characters in all rows together, got 10"),
    ],
)
def test_a_mistake_is_one_short_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(TextRequestError) as caught:
        parse_requests([{"prompt": "b"}, row], VOCAB)
    line = str(caught.value)
    assert line.removeprefix("row 2: ").startswith(message)
    assert len(line.splitlines()) == 1
    assert len(line) < 200


@pytest.mark.parametrize("num_rows", [0, MAX_ROWS + 1])
def test_the_number_of_rows_is_bounded(num_rows: int) -> None:
    with pytest.raises(TextRequestError, match=f"expected 1 to {MAX_ROWS} rows, got {num_rows}"):
        parse_requests([{"prompt": "a"}] * num_rows, VOCAB)
