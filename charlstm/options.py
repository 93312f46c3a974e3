"""What may be asked of a model that writes: the values that each option takes, and one line for any other.

The Python interface, the shell and the model that MLflow serves have the same options. They are checked here, before
torch is imported.
"""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Literal, NamedTuple, get_args

from charlstm.errors import TextRequestError

MAX_INTEGER = 2**63 - 1  # torch's
MAX_TEXTS = 100_000  # of a call, which keeps them all, each with the state after it
MAX_TEMPERATURE = 1e38  # what fp32 holds, as in `sample.temperatures`
Unknown = Literal["error", "nearest", "skip"]


class Rule(NamedTuple):
    """What an option may be."""

    expected: str
    is_whole: bool
    is_allowed: Callable[[float], bool]


RULES = {
    "num_chars": Rule("a whole number of at least 1", True, lambda value: 1 <= value <= MAX_INTEGER),
    "num_texts": Rule("a whole number from 1 to 100,000", True, lambda value: 1 <= value <= MAX_TEXTS),
    "temperature": Rule("a number from 0 to 1e38", False, lambda value: 0 <= value <= MAX_TEMPERATURE),
    "top_k": Rule("a whole number of at least 1", True, lambda value: 1 <= value <= MAX_INTEGER),
    "top_p": Rule("a number above 0 and at most 1", False, lambda value: 0 < value <= 1),
    "min_p": Rule("a number from 0 to 1", False, lambda value: 0 <= value <= 1),
    "seed": Rule("a whole number of at least 0, below 2**63", True, lambda value: 0 <= value <= MAX_INTEGER),
}


class Sampling(NamedTuple):
    """Options of a text, without the prompt, with their defaults everywhere: those of the quick recipe's samples."""

    num_chars: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    keep_stop: bool = False


DEFAULTS = Sampling()


def checked_sampling(
    *,
    num_chars: object,
    temperature: object,
    top_k: object,
    top_p: object,
    min_p: object,
    seed: object,
    stop: object,
    keep_stop: object,
) -> Sampling:
    """The options of a text, checked.

    Raises:
        TextRequestError: the first that is none of what its rule allows.
    """
    return Sampling(
        whole("num_chars", num_chars),
        checked_number("temperature", temperature, RULES["temperature"]),
        None if top_k is None else whole("top_k", top_k),
        checked_number("top_p", top_p, RULES["top_p"]),
        checked_number("min_p", min_p, RULES["min_p"]),
        whole("seed", seed),
        stop_texts(stop),
        yes_or_no("keep_stop", keep_stop),
    )


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


def yes_or_no(where: str, value: object) -> bool:
    """The value of a switch.

    Raises:
        TextRequestError: it is neither true nor false; `where` begins the message.
    """
    if not isinstance(value, bool):
        raise TextRequestError(f"{where}: expected true or false, got {short(value)}")
    return value


def stop_texts(value: object, where: str = "stop") -> tuple[str, ...]:
    """One stop text or several, as a tuple.

    Raises:
        TextRequestError: one is empty, or no text; `where` begins the message.
    """
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    for one in texts:
        if not isinstance(one, str) or not one:
            raise TextRequestError(f"{where}: expected a text of at least one character, or several, got {short(one)}")
    return texts


def unknown_rule(value: object) -> Unknown:
    """What becomes of characters that the model never saw.

    Raises:
        TextRequestError: no such rule.
    """
    for rule in get_args(Unknown):
        if value == rule:
            return rule  # type: ignore[no-any-return]
    raise TextRequestError(f"unknown: expected error, nearest or skip, got {short(value)}")


def short(value: object) -> str:
    """The value for a message."""
    try:
        shown = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return shown if len(shown) <= 60 else f"{shown[:60]} ..."
