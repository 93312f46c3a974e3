"""What a text costs without a network, in bits a character: n-grams and compressors that have seen the training text.

`baselines.json` has these figures, without times, hosts or paths.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charlstm.errors import HistoryError
from charlstm.evaluation.compressors import xz_bits, zstd_bits
from charlstm.evaluation.ngram import NGramModel
from charlstm.storage.documents import read_json
from charlstm.storage.files import write_text
from charlstm.text.vocabulary import Vocab

BASELINES = "baselines.json"
MAX_CHARS = 20_000_000  # of each text: bounds time and memory
DIGITS = 6  # what is left out is below what another processor's logarithm may change


class Baselines(BaseModel):
    """Bits a character of one text by several means. N-grams score each character but the first, compressors all."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1]
    num_training_chars: Annotated[int, Field(gt=0)]
    """The last ones of the training part, at most `MAX_CHARS`."""
    num_chars: Annotated[int, Field(gt=0)]
    """The first ones of the text that was scored, at most `MAX_CHARS`, without its first character."""
    ngrams: Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1)]
    """By order: "1-gram", "2-gram" ..."""
    compressors: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    """"xz" and "zstd"."""

    @property
    def bits_per_char(self) -> dict[str, float]:
        """All of them."""
        return self.ngrams | self.compressors

    @property
    def best_ngram(self) -> str:
        """The order that predicts best."""
        return min(self.ngrams, key=lambda name: self.ngrams[name])

    def better_than(self, bits_per_char: float) -> str | None:
        """The best baseline, if it beats a model of `bits_per_char`."""
        best = min(self.bits_per_char, key=lambda name: self.bits_per_char[name])
        return best if self.bits_per_char[best] < bits_per_char else None


def measure_baselines(train: str, text: str) -> Baselines:
    """All baselines on `text`, of at least 2 characters, by what `train` has."""
    train, text = train[-MAX_CHARS:], text[:MAX_CHARS]
    vocab = Vocab.of(train + text)
    nats_K = NGramModel(vocab.encode(train), len(vocab)).nats(vocab.encode(text))
    num_chars = len(text) - 1
    seen, own = train.encode(), text.encode()
    return Baselines(
        schema_version=1,
        num_training_chars=len(train),
        num_chars=num_chars,
        ngrams={f"{k}-gram": round(nats / num_chars / math.log(2), DIGITS) for k, nats in enumerate(nats_K, 1)},
        compressors={
            name: round(bits(seen, own) / len(text), DIGITS) for name, bits in (("xz", xz_bits), ("zstd", zstd_bits))
        },
    )


def write_baselines(path: Path, baselines: Baselines) -> None:
    """Write `baselines.json`."""
    write_text(path, json.dumps(baselines.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")


def read_baselines(path: Path) -> Baselines:
    """Read and check `baselines.json`.

    Raises:
        HistoryError: it is missing, no JSON, of another schema or damaged.
    """
    try:
        return Baselines.model_validate(read_json(path))
    except OSError as error:
        raise HistoryError(
            f"{path}: cannot read the baselines: {error.strerror}; `dvc repro evaluate` writes them"
        ) from None
    except (ValidationError, ValueError):
        raise HistoryError(
            f"{path}: expected baselines in bits a character, schema 1, found something else; "
            "`dvc repro --force evaluate` rewrites it"
        ) from None
