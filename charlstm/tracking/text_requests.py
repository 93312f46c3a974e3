"""What a user of the MLflow model asks for: one row, one text. Rows are checked here, before the model sees them.

Each mistake is one line that says in which row it is, what was expected and what came.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import NamedTuple

from charlstm.errors import TextRequestError
from charlstm.text.vocabulary import Vocab, describe

MAX_ROWS = 100
MAX_CHARS = 100_000  # of all rows together, prompts included: about 10-20 s on a CPU
MAX_INTEGER = 2**63 - 1  # torch's


class TextRequest(NamedTuple):
    """A row with its defaults, which are those of the quick recipe's samples. Only `prompt` is required."""

    prompt: str
    num_chars: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0


class Rule(NamedTuple):
    """What a key may hold."""

    expected: str
    is_whole: bool
    is_allowed: Callable[[float], bool]


RULES = {
    "num_chars": Rule(f"a whole number from 1 to {MAX_CHARS:,}", True, lambda value: 1 <= value <= MAX_CHARS),
    "temperature": Rule("a number of at least 0", False, lambda value: 0 <= value < math.inf),
    "top_k": Rule("a whole number of at least 1", True, lambda value: 1 <= value <= MAX_INTEGER),
    "top_p": Rule("a number above 0 and at most 1", False, lambda value: 0 < value <= 1),
    "seed": Rule("a whole number of at least 0, below 2**63", True, lambda value: 0 <= value <= MAX_INTEGER),
}


def parse_requests(rows: Sequence[Mapping[str, object]], vocab: Vocab) -> list[TextRequest]:
    """Checked requests. A value of None counts as not given, as an empty cell of a table does.

    Raises:
        TextRequestError: the first mistake: an unknown key, no prompt, a value of another type or out of range, a
            character that the model never saw, or more rows or characters than one call may ask for.
    """
    if not rows or len(rows) > MAX_ROWS:
        raise TextRequestError(f"expected 1 to {MAX_ROWS} rows, got {len(rows)}")
    requests = [_parse(f"row {number}", row, vocab) for number, row in enumerate(rows, 1)]
    if (total := sum(len(one.prompt) + one.num_chars for one in requests)) > MAX_CHARS:
        raise TextRequestError(
            f"expected at most {MAX_CHARS:,} characters in all rows together, prompts included, got {total:,}; "
            f"ask for less at a time"
        )
    return requests


def _parse(where: str, row: Mapping[str, object], vocab: Vocab) -> TextRequest:
    for key in row:
        if key not in TextRequest._fields:
            raise TextRequestError(f"{where}: unknown key {_short(key)}; known are {', '.join(TextRequest._fields)}")
    given = {key: value for key, value in row.items() if value is not None}
    prompt = _prompt(where, given.pop("prompt", None), vocab)
    numbers = {key: _number(f"{where}: {key}", value, RULES[key]) for key, value in given.items()}
    return TextRequest(prompt, **numbers)  # type: ignore[arg-type]  # whole where the rule says so


def _prompt(where: str, value: object, vocab: Vocab) -> str:
    if value is None:
        raise TextRequestError(f'{where}: no prompt; expected e.g. {{"prompt": "ROMEO:", "num_chars": 40}}')
    if not isinstance(value, str):
        raise TextRequestError(f"{where}: prompt: expected a text, got {_short(value)}")
    if not value:
        raise TextRequestError(f"{where}: prompt: expected at least one character, e.g. a newline")
    if unknown := vocab.unknown(value):
        raise TextRequestError(f"{where}: prompt: the model never saw the characters {describe(unknown)}")
    return value


def _number(where: str, value: object, rule: Rule) -> int | float:
    """A table turns whole numbers beside an empty cell into floats, and JSON has one kind of number: 40.0 is 40."""
    is_number = isinstance(value, Integral | Real) and not isinstance(value, bool)
    is_fit = is_number and rule.is_allowed(value) and (not rule.is_whole or value == int(value))  # type: ignore
    if not is_fit:
        raise TextRequestError(f"{where}: expected {rule.expected}, got {_short(value)}")
    return int(value) if rule.is_whole else float(value)  # type: ignore


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]} ..."
