"""Parameters and paths: `params.yaml` against its schema, each wrong value a line, and values that have no effect."""

import re
from collections.abc import Iterator

from charlstm.params import Params
from charlstm.storage.documents import parse_yaml
from charlstm.storage.yaml_files import faults_of, load_yaml
from pipeline.common.git import content_at_head
from pipeline.common.params_file import PARAMS, value_at
from pipeline.common.paths import NOTHING
from pipeline.common.presets import shown
from pipeline.doctor.finding import Finding, error, warning

PROTOCOL = re.compile(r"(windowed|sliding)_(\d+)|stateful")


def schema_faults() -> list[Finding]:
    """Each wrong value, with the one of the last commit: what `dvc exp run -S` wrote stays there when it has failed.

    Raises:
        ParamsError: there is no such file, or it is not YAML.
    """
    faults = faults_of(Params, load_yaml(PARAMS))
    return [error(f"{PARAMS}: {fault}{_in_last_commit(fault)}") for fault in faults]


def _in_last_commit(fault: str) -> str:
    """`; the last commit has 1`, of the parameter with which the description of a fault begins; empty for none."""
    try:
        value = value_at(parse_yaml((content_at_head(PARAMS) or b"").decode()), fault.partition(" ")[0])
    except (ValueError, LookupError):
        return ""
    return "" if isinstance(value, dict) else f"; the last commit has {shown(value)}"


def check(params: Params) -> Iterator[Finding]:
    """What the schema allows, and still is a mistake."""
    split = params.split
    if split.val_fraction + split.test_fraction >= 1:
        yield error(
            f"{PARAMS}: split.val_fraction {split.val_fraction:g} and split.test_fraction {split.test_fraction:g} "
            f"leave nothing to train on: lower them"
        )
    yield from _published(params)
    yield from _teaching(params)
    if 0 in params.sample.temperatures and len(params.sample.seeds) > 1:
        yield warning(
            f"{PARAMS}: sample.temperatures has 0, at which nothing is drawn: "
            f"the {len(params.sample.seeds)} of sample.seeds give the same text"
        )
    for name, values in (("sample.seeds", params.sample.seeds), ("evaluate.window_lens", params.evaluate.window_lens)):
        if len(set(values)) < len(values):
            yield warning(f"{PARAMS}: {name} has a value twice, which makes the same twice: {list(values)}")
    if (params.train.micro_batch_size or 0) > params.train.batch_size:
        yield warning(
            f"{PARAMS}: train.micro_batch_size {params.train.micro_batch_size} is more than "
            f"train.batch_size {params.train.batch_size} and has no effect"
        )


def _teaching(params: Params) -> Iterator[Finding]:
    rows, text = params.train.distillation.rows, params.train.distillation.text
    if rows and text == NOTHING:
        yield error(
            f"{PARAMS}: train.distillation.rows is {rows}, but there is no text for them: set train.distillation.text "
            "and teachers, as the recipe best does"
        )
    elif not rows and text != NOTHING:
        yield error(
            f"{PARAMS}: train.distillation.rows is 0, so nothing learns from {text}: set train.distillation.text to "
            f"{NOTHING} and teachers.recipes to []"
        )
    elif not rows and params.teachers.recipes:
        yield warning(f"{PARAMS}: teachers.recipes has no effect on a model whose train.distillation.rows is 0")


def _published(params: Params) -> Iterator[Finding]:
    for index, loss in enumerate(params.evaluate.published.losses if params.evaluate.published else ()):
        name = f"{PARAMS}: evaluate.published.losses[{index}].protocol"
        match = PROTOCOL.fullmatch(loss.protocol)
        if match is None:
            yield error(f"{name}: expected windowed_N, sliding_N or stateful, got {loss.protocol!r}")
        elif match[1] == "windowed" and int(match[2]) not in params.evaluate.window_lens:
            yield warning(f"{name}: {loss.protocol} is not measured: add {match[2]} to evaluate.window_lens")
