"""The options of a text that a model writes: type, default, help, and the values that are allowed.

The shell's options and the columns that MLflow serves are made from `SamplingOptions`, `DEFAULTS` and `HELP`. Options
are checked here, before torch is imported.
"""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_args, get_type_hints

from charlstm.errors import TextRequestError

MAX_INTEGER = 2**63 - 1  # torch's
MAX_TEXTS = 100_000  # of a call, which keeps them all, each with the state after it
MAX_TEMPERATURE = 1e38  # what fp32 holds, as in `sample.temperatures`
Unknown = Literal["error", "replace"]


class Rule(NamedTuple):
    """The numbers that an option may take, in words and as a test."""

    expected: str
    is_whole: bool
    is_allowed: Callable[[float], bool]


RULES = {
    "num_chars": Rule(
        "a whole number of at least 1", True, lambda value: 1 <= value <= MAX_INTEGER
    ),
    "num_texts": Rule(
        "a whole number from 1 to 100,000", True, lambda value: 1 <= value <= MAX_TEXTS
    ),
    "temperature": Rule(
        "a number from 0 to 1e38", False, lambda value: 0 <= value <= MAX_TEMPERATURE
    ),
    "top_k": Rule("a whole number of at least 1", True, lambda value: 1 <= value <= MAX_INTEGER),
    "top_p": Rule("a number above 0 and at most 1", False, lambda value: 0 < value <= 1),
    "min_p": Rule("a number from 0 to 1", False, lambda value: 0 <= value <= 1),
    "seed": Rule(
        "a whole number of at least 0, below 2**63", True, lambda value: 0 <= value <= MAX_INTEGER
    ),
}


class Sampling(NamedTuple):
    """How a text is drawn, without its prompt. The defaults are those of the quick recipe's samples.

    What is kept of the model's distribution, in this order: `temperature` divides the logits; 0 takes the most likely
    character. `min_p` keeps what has at least this share of the most likely character's probability (Nguyen et al.
    2024). `top_k` keeps the k most likely characters. `top_p` keeps the smallest set of most likely characters that
    together have at least this share of what is left (nucleus sampling, Holtzman et al. 2020). Characters as likely as
    the last one that is kept are kept, too.

    The text has `num_chars` characters, or fewer, up to the first of the `stop` strings; with `keep_stop` it has that
    string at its end.
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
        """Options that somebody gave; those that are not there have their defaults.

        Raises:
            TextRequestError: the first that is none of what its rule allows.
        """
        checked: dict[str, Any] = {}
        for name, value in options.items():
            checked[name] = value
            if name == "stop":
                given = () if value is None else value
                texts = (
                    tuple(given)
                    if isinstance(given, Sequence) and not isinstance(given, str)
                    else (given,)
                )
                if wrong := [one for one in texts if not isinstance(one, str) or not one]:
                    expected = "a text of at least one character, or several"
                    raise TextRequestError(f"stop: expected {expected}, got {short(wrong[0])}")
                checked["stop"] = texts
            elif name == "keep_stop" and not isinstance(value, bool):
                raise TextRequestError(f"keep_stop: expected true or false, got {short(value)}")
            elif name in RULES and not (name == "top_k" and value is None):
                checked[name] = checked_number(name, value, RULES[name])
        return cls(**checked)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as somebody may give them."""

    num_chars: int
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    seed: int
    stop: str | Sequence[str] | None
    keep_stop: bool


TYPES: dict[str, Any] = get_type_hints(SamplingOptions) | {
    "stop": list[str] | None
}  # as a shell or a server has them
DEFAULTS: dict[str, Any] = Sampling._field_defaults
HELP = {
    "num_chars": "Characters of a text.",
    "temperature": "Divides the logits: lower is safer, 0 takes the likeliest.",
    "top_k": "Only the K likeliest characters.",
    "top_p": "Only the likeliest with this probability together.",
    "min_p": "Only characters with this share of the likeliest one's probability.",
    "seed": "The same seed, the same text. Without, a fresh one each time.",
    "stop": "End before this text. May be given several times.",
    "keep_stop": "End after the text of --stop, not before it.",
}


def whole(name: str, value: object) -> int:
    """The option `name`, a whole number.

    Raises:
        TextRequestError: it is something else, or its rule does not allow it.
    """
    return int(checked_number(name, value, RULES[name]))


def checked_number(where: str, value: object, rule: Rule) -> int | float:
    """The value as an int or a float. 40.0 is 40: JSON has one kind of number, and tables make floats of integers.

    Raises:
        TextRequestError: the rule does not allow it; `where` begins the message.
    """
    is_number = isinstance(value, Integral | Real) and not isinstance(value, bool)
    is_fit = is_number and rule.is_allowed(value) and (not rule.is_whole or value == int(value))  # type: ignore
    if not is_fit:
        raise TextRequestError(f"{where}: expected {rule.expected}, got {short(value)}")
    return int(value) if rule.is_whole else float(value)  # type: ignore


def unknown_rule(value: object) -> Unknown:
    """The rule for characters that the model never saw.

    Raises:
        TextRequestError: no such rule.
    """
    if value not in get_args(Unknown):
        raise TextRequestError(f"unknown: expected error or replace, got {short(value)}")
    return cast(Unknown, value)


def short(value: object) -> str:
    """The value for a message."""
    try:
        shown = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return shown if len(shown) <= 60 else f"{shown[:60]} ..."
