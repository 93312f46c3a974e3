"""The parameters of `params.yaml` as frozen, validated objects. No value has a default in code.

Like DVC, this module reads the file as YAML 1.2, in which `1e-3` is a number.
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

from charlstm.corpus.fetch import FALLBACKS, Fallback
from charlstm.files.documents import load_yaml, validate
from charlstm.files.urls import fault_of_source
from charlstm.model.shape import Implementation, Initialization
from charlstm.parameter_names import flatten
from charlstm.text.vocabulary import Unit

AUTO: Literal["auto"] = "auto"  # takes prompts from the validation part
# This path means "no file". A file must exist there: DVC has no optional dependencies.
NOTHING = "conf/corpus/nothing"

# The bounds are generous. Larger values are probably typos, and need too much memory or time.
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e38, allow_inf_nan=False)]  # fits into fp32
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e38, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # a probability or decay rate; 1 would be useless
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Features = Annotated[int, Field(gt=0, le=65_536)]  # size of a vector, such as the hidden state
OptionalFeatures = Annotated[int, Field(ge=0, le=65_536)]  # 0 omits the layer
Rows = Annotated[int, Field(gt=0, le=1_000_000)]  # of a batch
Length = Annotated[int, Field(gt=0, le=10_000_000)]  # characters
ScoredLength = Annotated[int, Field(ge=10, le=10_000_000)]  # characters or bytes
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
AFewValues = Field(strict=False, max_length=1_000)


def _is_source(value: str) -> str:
    if fault := fault_of_source(value):
        raise ValueError(fault)
    return value


def _or_auto(value: object, check: object) -> object:
    # With a plain union, a mistake in a list would also be reported as "should be 'auto'".
    return value if value == AUTO else _PROMPTS.validate_python(value)


FileOrFolder = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Source = Annotated[FileOrFolder, AfterValidator(_is_source)]  # a path or a URL
Prompt = Annotated[str, Field(min_length=1, max_length=100_000)]
_PROMPTS = TypeAdapter(Annotated[tuple[Prompt, ...], Field(min_length=1), AFewValues])
Prompts = Annotated[tuple[Prompt, ...] | Literal["auto"], WrapValidator(_or_auto)]


class Section(BaseModel):
    """A mapping with exactly the declared keys. Its values are never converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def names(cls) -> Iterator[str]:
        """Yield the dotted names of all parameters. A section that may be null is one parameter."""
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from (f"{name}.{inner}" for inner in kind.names())
            else:
                yield name

    def values(self) -> dict[str, Any]:
        """Return the values of all parameters by dotted name, as JSON types."""
        document = self.model_dump(mode="json")
        return {name: reduce(getitem, name.split("."), document) for name in self.names()}


class DownloadParams(Section):
    """The source and format of the corpus, and the checksum that its bytes must match."""

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]{0,63}$")]
    source: Source
    watch: Source
    sha256: Sha256 | None
    encoding: Annotated[str, Field(min_length=1, max_length=100)]
    newlines: Literal["keep", "lf"]

    @property
    def fallback(self) -> Fallback | None:
        """The text that may replace this source, or None if there is no such text."""
        return FALLBACKS.get(self.sha256 or "")


class SplitParams(Section):
    """The fractions of the text that are held out for validation and for the test."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    test_fraction: Rate


class EncodeParams(Section):
    """The characters that get an id, and the treatment of all other characters."""

    unit: Unit
    min_count: PositiveInt
    unseen: Literal["replace", "error"]

    @model_validator(mode="after")
    def _has_no_rare_bytes(self) -> Self:
        if self.unit == "byte" and self.min_count > 1:
            raise ValueError("min_count must be 1 if unit is 'byte', because every byte has an id")
        return self


class ModelParams(Section):
    """The sizes, implementation and initialization of the model."""

    implementation: Implementation
    embedding_size: OptionalFeatures
    hidden_size: Features
    num_layers: Annotated[int, Field(gt=0, le=100)]
    feed_forward_size: OptionalFeatures
    initialization: Initialization
    forget_gate_bias: Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class DropoutParams(Section):
    """The style of dropout, and the dropout rates at different places in the model."""

    style: Literal["locked", "elementwise"]
    embedding: Rate
    between_layers: Rate
    output: Rate
    output_samples: Annotated[int, Field(gt=0, le=100)]


class MuonParams(Section):
    """Settings for the Muon optimizer, used if `optimizer` is `muon`."""

    learning_rate: PositiveFloat
    momentum: Rate


class TrainParams(Section):
    """The training settings: batches, optimizer, regularization and validation."""

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
    # This number is bounded, because a checkpoint stores every step since the last logged step.
    log_every_steps: Annotated[int, Field(gt=0, le=1_000_000)]


class PublishedLoss(Section):
    """A published validation loss, its evaluation protocol, and the system that achieved it."""

    protocol: Annotated[str, Field(pattern=r"^((windowed|sliding)_\d+|stateful)$")]
    system: Text
    nats_per_char: PositiveFloat


class PublishedParams(Section):
    """Published losses for the validation text that has the given SHA-256."""

    validation_sha256: Sha256
    losses: Annotated[tuple[PublishedLoss, ...], AFewValues]


class EvaluateParams(Section):
    """Settings for the evaluation: window lengths, amount of text, and published losses."""

    window_lens: Annotated[tuple[Length, ...], AFewValues]
    max_chars: ScoredLength | None
    published: PublishedParams | None


class SampleParams(Section):
    """Prompts, temperatures and seeds of samples, and the rules for sampling a character."""

    prompts: Prompts
    temperatures: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1), AFewValues]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AFewValues]
    num_chars: Length
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)]
    min_p: Fraction


class Params(Section):
    """All parameters in `params.yaml`, with a section for every stage."""

    download: DownloadParams
    split: SplitParams
    encode: EncodeParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    sample: SampleParams

    def flat(self) -> dict[str, str | int | float]:
        """Return all values by dotted name, for a table. Lists and nulls are written as JSON."""
        flat = flatten(self.model_dump(mode="json"))
        for name, value in flat.items():
            if not isinstance(value, str | int | float):
                flat[name] = json.dumps(value, ensure_ascii=False)
        return flat


def load_params(path: Path) -> Params:
    """Read and validate the parameters in a file.

    Raises:
        ParamsError: the file has mistakes. The message lists all of them in one line.
    """
    return validate(Params, load_yaml(path), path)
