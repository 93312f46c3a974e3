"""`params.yaml` -> frozen, validated objects. No value has a default here: the file is the only place.

The file is read as YAML 1.2, as DVC does: `1e-3` is a number.
"""

import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    WrapValidator,
    model_validator,
)

from charlstm.corpus.fallbacks import FALLBACKS, Fallback
from charlstm.files.documents import load_yaml, validate
from charlstm.files.urls import fault_of_source
from charlstm.parameter_names import flatten

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PositiveFloat = Annotated[float, Field(gt=0, le=1e38, allow_inf_nan=False)]  # what fp32 holds
AUTO: Literal["auto"] = "auto"  # prompts: beginnings of lines of the validation part


class Section(BaseModel):
    """A mapping whose keys are all required, all known, and never converted."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )

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


NOTHING = (
    "conf/corpus/nothing"  # a path that leads to nothing: DVC has no dependency that may be absent
)
# Bounds are generous: what is beyond them is a typo that would fill the memory or never end.
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e38, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Features = Annotated[int, Field(gt=0, le=65_536)]  # of a character, a hidden state, ...
FeaturesOrNone = Annotated[int, Field(ge=0, le=65_536)]  # 0: what has them is left out
Rows = Annotated[int, Field(gt=0, le=1_000_000)]  # of a batch
Length = Annotated[int, Field(gt=0, le=10_000_000)]  # characters
ScoredLength = Annotated[
    int, Field(ge=10, le=10_000_000)
]  # characters or bytes: of two, the second is scored
Rate = Annotated[float, Field(ge=0, lt=1)]  # a probability or a decay that 1 would make useless
Fraction = Annotated[float, Field(ge=0, le=1)]
AFewValues = Field(strict=False, max_length=1_000)


def _is_source(value: str) -> str:
    if fault := fault_of_source(value):
        raise ValueError(fault)
    return value


def _or_auto(value: object, check: object) -> object:
    """Without this, a mistake in a list would also be reported as another value than auto."""
    return value if value == AUTO else _PROMPTS.validate_python(value)


FileOrFolder = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Source = Annotated[FileOrFolder, AfterValidator(_is_source)]  # a path or a URL
Prompt = Annotated[str, Field(min_length=1, max_length=100_000)]  # characters
_PROMPTS = TypeAdapter(
    Annotated[tuple[Prompt, ...], Field(strict=False, min_length=1, max_length=1_000)]
)
Prompts = Annotated[tuple[Prompt, ...] | Literal["auto"], WrapValidator(_or_auto)]


class DownloadParams(Section):
    """Where the corpus comes from and which bytes it must be."""

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]{0,63}$")]
    source: Source
    watch: Source
    sha256: Sha256 | None
    encoding: Annotated[str, Field(min_length=1, max_length=100)]
    newlines: Literal["keep", "lf"]

    @property
    def fallback(self) -> Fallback | None:
        """The text that may stand in for this one."""
        return FALLBACKS.get(self.sha256 or "")


class SplitParams(Section):
    """How much of the text is held out."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    test_fraction: Rate
    document_separator: Annotated[str, Field(min_length=1, max_length=1_000)] | None


class EncodeParams(Section):
    """Which characters have an id, and what happens to those that have none."""

    unit: Literal["character", "byte"]
    min_count: PositiveInt
    unseen: Literal["replace", "error"]

    @model_validator(mode="after")
    def _has_no_rare_bytes(self) -> Self:
        if self.unit == "byte" and self.min_count > 1:
            raise ValueError("min_count should be 1 where unit is byte: no byte is too rare")
        return self


class ModelParams(Section):
    """The model's sizes, and how its layers are computed."""

    implementation: Literal["gates", "fused"]
    embedding_size: FeaturesOrNone
    hidden_size: Features
    num_layers: Annotated[int, Field(gt=0, le=100)]
    feed_forward_size: FeaturesOrNone
    initialization: Literal["orthogonal", "uniform"]
    forget_gate_bias: Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class DropoutParams(Section):
    """Dropout rates by place."""

    style: Literal["locked", "elementwise"]
    embedding: Rate
    between_layers: Rate
    output: Rate
    output_samples: Annotated[int, Field(gt=0, le=100)]


class MuonParams(Section):
    """Used where `optimizer` is muon."""

    learning_rate: PositiveFloat
    momentum: Rate


class TrainParams(Section):
    """The recipe: batches, optimizer and regularization."""

    seed: Seed
    initial: FileOrFolder
    precision: Literal["auto", "fp32", "bf16", "fp64"]
    batching: Literal["streams", "windows", "sliding_windows"]
    batch_size: Rows
    micro_batch_size: Rows | None
    context_len: Length
    window_stride: Length
    state_reset_probability: Rate
    epochs: Annotated[int, Field(gt=0, le=1_000_000)]
    optimizer: Literal["adamw", "muon"]
    muon: MuonParams
    learning_rate: PositiveFloat
    final_learning_rate_fraction: Fraction
    warmup_steps: NonNegativeInt
    weight_decay: NonNegativeFloat
    adam_beta1: Rate
    adam_beta2: Rate
    gradient_clip_norm: PositiveFloat | None
    on_nonfinite: Literal["stop", "skip"]
    dropout: DropoutParams
    ema_decay: Rate
    early_stopping_epochs: PositiveInt | None
    validation: Literal["windowed", "sliding"]
    validation_context_len: Length
    validation_chars: ScoredLength | None
    log_every_steps: Annotated[
        int, Field(gt=0, le=1_000_000)
    ]  # a checkpoint has what each of them measured


class PublishedParams(Section):
    """Losses that others reported for one validation text."""

    validation_sha256: Sha256
    losses: Annotated[tuple[PublishedLoss, ...], AFewValues]


class EvaluateParams(Section):
    """The windowed protocols to measure besides the stateful one, on how much text, and what is compared with them."""

    window_lens: Annotated[tuple[Length, ...], AFewValues]
    max_chars: ScoredLength | None
    published: PublishedParams | None


class SampleParams(Section):
    """Prompts x temperatures x seeds, and how the next character is drawn."""

    prompts: Prompts
    temperatures: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1), AFewValues]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AFewValues]
    num_chars: Length
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)]
    min_p: Annotated[float, Field(ge=0, le=1)]


class Params(Section):
    """The whole file, a section a stage."""

    download: DownloadParams
    split: SplitParams
    encode: EncodeParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    sample: SampleParams

    def flat(self) -> dict[str, str | int | float]:
        """Dotted names -> values, for a table of parameters; lists and nulls as JSON."""
        return {
            name: value
            if isinstance(value, str | int | float)
            else json.dumps(value, ensure_ascii=False)
            for name, value in flatten(self.model_dump(mode="json")).items()
        }


def load_params(path: Path) -> Params:
    """Read and check the whole file; a ParamsError names all that is wrong in one line."""
    return validate(Params, load_yaml(path), path)
