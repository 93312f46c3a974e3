"""What a search varies: a YAML file of parameters, each with a range or a list of choices, checked before any trial."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from charlstm.errors import ParamsError
from charlstm.files.documents import did_you_mean, faults_of, load_yaml
from charlstm.params import NOTHING, Params
from pipeline.stage.params_file import replaced
from pipeline.stage.presets import RECIPES, load

Number = int | float
Value = str | bool | int | float | None
NOT_VARIED = (  # with other values, other texts are learned, or another loss is measured
    *("train.initial", "train.validation", "train.validation_context_len"),
)
DIGITS = 3  # of numbers that are drawn from a range


class Around(BaseModel):
    """Numbers from a `times`-th of what `params.yaml` has to so many times as much; each factor is as likely."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    times: Annotated[Number, Field(gt=1, le=1000)]


class Range(BaseModel):
    """Numbers from `low` to `high`, whole ones if the parameter is. `log`: each factor is as likely as any other."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    low: Number
    high: Number
    log: bool = False


Choices = tuple[Value, ...]


class Space(NamedTuple):
    """What is varied, by dotted name, and what `params.yaml` has there, which is always among it."""

    varied: Mapping[str, Range | Choices]
    base: Mapping[str, Value]
    notes: list[str]  # what the file names and is left as it is, and why

    def identity(self) -> str:
        """The same for the same space, and for no other."""
        varied = {name: one.model_dump() if isinstance(one, Range) else one for name, one in self.varied.items()}
        return json.dumps([varied, dict(self.base)], sort_keys=True)

    def values(self, drawn: Mapping[str, Value]) -> dict[str, Value]:
        """What a trial has for what was drawn: numbers of a few digits, for people to read."""
        return {name: self._rounded(name, value) for name, value in drawn.items()}

    def beside(self, name: str, random: Random) -> Value:
        """Another value for one parameter: the next choice in the list, or half of the way to an end of the range."""
        within, base = self.varied[name], self.base[name]
        if not isinstance(within, Range):
            at = within.index(base)
            return random.choice([within[other] for other in (at - 1, at + 1) if 0 <= other < len(within)])
        assert isinstance(base, Number)
        end = random.choice([end for end in (within.low, within.high) if end != base])
        half = math.sqrt(base * end) if within.log else (base + end) / 2
        if isinstance(base, int):
            return end if round(half) == base else round(half)
        return self._rounded(name, half)

    def _rounded(self, name: str, value: Value) -> Value:
        within = self.varied.get(name)
        if not isinstance(value, float) or not isinstance(within, Range) or value == self.base[name]:
            return value
        short = float(f"{value:.{DIGITS}g}")
        return short if within.low <= short <= within.high else value


def read_space(path: Path, params: Params) -> Space:
    """The space in a file, around `params`.

    Raises:
        ParamsError: it is no mapping of parameters to ranges and lists, or varies what a search must not; all mistakes
            are named.
    """
    document = load_yaml(path)
    if not isinstance(document, dict) or not document:
        raise ParamsError(f"{path}: expected parameters by dotted name, each with low and high or a list, found none")
    values = params.values()
    document = {str(name): _around(entry, values.get(str(name))) for name, entry in document.items()}
    decided = [name for name in load(RECIPES, RECIPES.root).values if not name.startswith(NOT_VARIED)]
    faults = [fault for name, entry in document.items() for fault in _faults(name, entry, params, decided)]
    if faults:
        raise ParamsError(f"{path}: {'; '.join(faults)}")
    reasons = {name: _reason_to_leave(name, values, document) for name in document}
    kept = {name: entry for name, entry in document.items() if not reasons[name]}
    notes = [f"{name} stays as it is: {reason}" for name, reason in reasons.items() if reason]
    if not kept:
        raise ParamsError(f"{path}: nothing is left to vary: {'; '.join(notes)}")
    return Space(
        {name: _with_base(entry, values[name]) for name, entry in kept.items()}, {n: values[n] for n in kept}, notes
    )


def _around(entry: object, base: object) -> object:
    """The range of an entry `times: 3`; other entries as they are, and one around which there is no other number."""
    if not isinstance(base, Number) or isinstance(base, bool) or base <= 0:
        return entry
    if not isinstance(entry, dict) or "times" not in entry or faults_of(Around, entry):
        return entry
    times = Around.model_validate(entry).times
    low, high = base / times, base * times
    if isinstance(base, int):
        low, high = math.ceil(low), math.floor(high)
    return {"low": low, "high": high, "log": True} if low < high else entry


def _faults(name: str, entry: object, params: Params, decided: list[str]) -> Iterator[str]:
    """What is wrong with an entry of the file."""
    if name not in decided:
        if name in Params.names():
            yield f"{name} is not varied by a search, which varies what recipes decide of model and training"
        else:
            yield f"{name} is not a parameter{did_you_mean(name, decided)}"
        return
    base = params.values()[name]
    if isinstance(entry, list):
        wrong = [value for value in entry if not isinstance(value, Value)]
        if wrong or not entry:
            yield f"{name} should be a list of single values, or have low and high"
            return
        ends: list[Value] = entry
    else:
        kind = Around if isinstance(entry, dict) and "times" in entry else Range
        if not (faults := faults_of(kind, entry)) and kind is Around:
            yield f"{name} is {json.dumps(base)} in params.yaml, with nothing around it: give low and high or a list"
            return
        if faults:
            yield from (f"{name}.{fault}".replace(".the file", "") for fault in faults)
            return
        within = Range.model_validate(entry)
        ends = [within.low, within.high]
        if isinstance(base, bool) or not isinstance(base, Number):
            yield f"{name} is no number in params.yaml, but {json.dumps(base)}: give a list"
            return
        if not within.low < within.high:
            yield f"{name}.low should be less than high, got {within.low} and {within.high}"
        if within.log and min(within.low, base) <= 0:
            yield f"{name}.log needs numbers above 0, got {min(within.low, base)} (here or in params.yaml): give a list"
    for value in dict.fromkeys(ends):
        document = replaced(params.model_dump(mode="json"), {name: value})
        yield from faults_of(Params, document)
        if name == "train.epochs" and isinstance(value, Number) and value > params.train.epochs:
            yield f"{name} should be at most {params.train.epochs}, as in params.yaml, got {value}: longer is better"


def _reason_to_leave(name: str, values: Mapping[str, object], document: Mapping[str, object]) -> str:
    """Why a parameter cannot be varied, or would do nothing; empty if it can."""

    def is_fixed(other: str, value: object) -> bool:
        return other not in document and values[other] == value

    if name.startswith("model.") and values["train.initial"] != NOTHING:
        return "training begins from a model (train.initial), which has its sizes"
    if name.startswith("train.muon.") and is_fixed("train.optimizer", "adamw"):
        return "train.optimizer is adamw"
    if name == "train.window_stride" and is_fixed("train.batching", "streams"):
        return "train.batching is streams"
    if name == "train.state_reset_probability" and is_fixed("train.batching", "windows"):
        return "train.batching is windows"
    entry = document[name]
    if isinstance(entry, list) and all(value == values[name] for value in entry):
        return "there is no other value for it"
    one_layer = is_fixed("model.num_layers", 1) and is_fixed("model.feed_forward_size", 0)
    return "the model has a single layer" if name == "train.dropout.between_layers" and one_layer else ""


def _with_base(entry: object, base: Value) -> Range | Choices:
    """A range or choices that have `base` among them; numbers in their order, so that each is beside the next ones."""
    if isinstance(entry, list):
        choices = tuple(dict.fromkeys([*entry, base]))
        numbers = [one for one in choices if isinstance(one, Number) and not isinstance(one, bool)]
        return tuple(sorted(numbers)) if len(numbers) == len(choices) else choices
    within = Range.model_validate(entry)
    assert isinstance(base, Number)
    return within.model_copy(update={"low": min(within.low, base), "high": max(within.high, base)})
