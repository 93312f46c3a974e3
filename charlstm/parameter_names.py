"""Functions that flatten, compare and describe parameters by dotted name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

NOT_OF_A_MODEL = ("evaluate.", "sample.")  # sections that do not influence the trained model
SEED = "train.seed"
MAX_SHOWN_CHARS = 40  # maximum length of a value in a description
MAX_NAMED = 3  # maximum number of parameters in a model's name


def flatten(sections: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted names: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat


def values_in_words(values: Mapping[str, object]) -> str:
    """Describe parameter values, e.g. `hidden_size 128, muon.learning_rate 0.06`."""
    return ", ".join(f"{short_name(name)} {shown(value)}" for name, value in values.items())


def short_name(name: str) -> str:
    """Return a parameter's name without the prefix `model.` or `train.`."""
    return name.removeprefix("model.").removeprefix("train.")


def shown(value: object) -> str:
    """Return a value as one line of text, shortened if it is too long."""
    if value is None:
        return "none"
    # JSON escapes unprintable characters. Unlike YAML, JSON has no dates, so `str` converts them.
    line = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value.isprintable():
        line = value
    return line if len(line) <= MAX_SHOWN_CHARS else f"{line[: MAX_SHOWN_CHARS - 3]}..."


def differing(several: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the names of parameters that differ between mappings, or that a mapping lacks."""
    names = dict.fromkeys(name for values in several for name in values)
    # `repr` distinguishes 1, 1.0 and True, which are equal. The ellipsis represents a missing name.
    return [name for name in names if len({repr(values.get(name, ...)) for values in several}) > 1]
