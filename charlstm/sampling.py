"""Sampling options for a generated text: types, defaults, help texts and allowed values.

The command line's options and the columns of the MLflow model are derived from `SamplingOptions`,
`DEFAULTS` and `HELP`. This module does not import torch, so wrong options are reported immediately.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_args, get_type_hints

from charlstm.errors import TextRequestError

MAX_INTEGER = 2**63 - 1  # the largest integer that torch supports
MAX_TEXTS = 100_000  # per call, because all texts and their states are in memory
MAX_TEMPERATURE = 1e38  # fits into fp32; also the limit of `sample.temperatures`
Unknown = Literal["error", "replace"]


class Sampling(NamedTuple):
    """Sampling options for a text. The defaults are the sample parameters of the recipe `quick`.

    The options change the model's distribution in this order. `temperature` divides the logits; 0
    always takes the most likely character. `min_p` keeps characters whose probability is at least
    this fraction of the most likely character's probability (Nguyen et al. 2024). `top_k` keeps the
    k most likely characters. `top_p` keeps the smallest set of most likely characters whose
    share of the remaining probability is at least this value (nucleus sampling, Holtzman et al.
    2020). Characters that are as likely as the last kept character are also kept.

    The text has `num_chars` characters, or ends before the first of the `stop` strings. With
    `keep_stop`, it ends after that string.
    """

    num_chars: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    keep_stop: bool = False

    @classmethod
    def checked(cls, **options: object) -> "Sampling":
        """Check the options and return them, with defaults for the missing options.

        Raises:
            TextRequestError: a value is not allowed. The message is about the first wrong option.
        """
        checked: dict[str, Any] = dict(options)
        for name, value in options.items():
            if name == "stop":
                checked[name] = _checked_stops(value)
            elif name == "keep_stop" and not isinstance(value, bool):
                raise TextRequestError(f"keep_stop: expected true or false, got {short(value)}")
            elif name in RULES and not (name == "top_k" and value is None):
                checked[name] = checked_number(name, value)
        return cls(**checked)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, with the types that a caller may pass."""

    num_chars: int
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    seed: int
    stop: str | Sequence[str] | None
    keep_stop: bool


# The command line and the server pass `stop` as a list.
TYPES: dict[str, Any] = get_type_hints(SamplingOptions) | {"stop": list[str] | None}
DEFAULTS: dict[str, Any] = Sampling._field_defaults
HELP = {
    "num_chars": "Number of characters.",
    "temperature": "Divides the logits: lower is safer, 0 always picks the likeliest character.",
    "top_k": "Sample only among the K likeliest characters.",
    "top_p": "Sample only among the likeliest characters that together have this probability.",
    "min_p": "Sample only characters at least this fraction as likely as the likeliest character.",
    "seed": "The same seed gives the same text. Default: a new seed each time.",
    "stop": "End before this text. May be given several times.",
    "keep_stop": "End after the text of --stop instead of before it.",
}


class Rule(NamedTuple):
    """The numbers that an option accepts, in words and as a type with an inclusive range."""

    expected: str
    kind: type[int] | type[float]
    lowest: float
    highest: float


RULES = {
    "num_chars": Rule("a whole number of at least 1", int, 1, MAX_INTEGER),
    "num_texts": Rule("a whole number from 1 to 100,000", int, 1, MAX_TEXTS),
    "temperature": Rule("a number from 0 to 1e38", float, 0, MAX_TEMPERATURE),
    "top_k": Rule("a whole number of at least 1", int, 1, MAX_INTEGER),
    "top_p": Rule("a number above 0 and at most 1", float, math.ulp(0), 1),
    "min_p": Rule("a number from 0 to 1", float, 0, 1),
    "seed": Rule("a whole number of at least 0, below 2**63", int, 0, MAX_INTEGER),
}


def checked_number(name: str, value: object) -> int | float:
    """Check the value of the option `name`. Return the value as an int or a float.

    40.0 is accepted as 40, because JSON has one number type and tables turn integers into floats.

    Raises:
        TextRequestError: the value is not allowed.
    """
    rule = RULES[name]
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    is_allowed = is_number and rule.lowest <= value <= rule.highest  # type: ignore
    if not is_allowed or (rule.kind is int and value != int(value)):  # type: ignore
        raise TextRequestError(f"{name}: expected {rule.expected}, got {short(value)}")
    return rule.kind(value)  # type: ignore


def _checked_stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts: tuple[Any, ...] = (value,)
    if isinstance(value, Sequence) and not isinstance(value, str):
        texts = tuple(value)
    for text in texts:
        if not isinstance(text, str) or not text:
            expected = "a nonempty text, or a list of nonempty texts"
            raise TextRequestError(f"stop: expected {expected}, got {short(text)}")
    return texts


def unknown_rule(value: object) -> Unknown:
    """Check and return the rule for characters that the model never saw.

    Raises:
        TextRequestError: the rule does not exist.
    """
    if value not in get_args(Unknown):
        raise TextRequestError(f"unknown: expected 'error' or 'replace', got {short(value)}")
    return cast(Unknown, value)


def short(value: object) -> str:
    """Return at most 60 characters of the value's `repr`, for a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]} ..."
