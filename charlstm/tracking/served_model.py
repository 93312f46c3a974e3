"""The model as MLflow loads and serves it. MLflow copies this file next to the weights and runs it: nothing is pickled.

MLflow also runs it in the process that logs a model, which has no use for torch. So torch is imported on loading.
Rows are checked here: each mistake is one line that says in which row it is, what was expected and what came.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import BaseModel, ConfigDict, SkipValidation, create_model

from charlstm.errors import TextRequestError
from charlstm.sampling import TYPES, Sampling, short
from charlstm.text.vocabulary import Vocab
from charlstm.unknown_characters import check_stops, readable

ARTIFACT = "model"  # the model folder's name among the artifacts
MAX_ROWS = 100
MAX_CHARS = 100_000  # of all rows together, prompts included: at most about 20 s on a CPU
KEYS = ("prompt", "unknown", *Sampling._fields)


class Row(BaseModel):
    """The columns, for MLflow's signature only: MLflow would drop unknown keys and convert types without a word.

    `SampledRow` adds the options of `charlstm.sampling`.
    """

    model_config = ConfigDict(extra="allow")

    prompt: SkipValidation[str] = ""
    unknown: SkipValidation[str | None] = None


_OPTIONS: Any = {name: (SkipValidation[kind | None], None) for name, kind in TYPES.items()}  # type: ignore
SampledRow = create_model("SampledRow", __base__=Row, **_OPTIONS)


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no annotations
    """Rows in, texts out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder."""
        from charlstm.generation.sampler import Sampler
        from charlstm.model.model_folder import load_model

        model, self.vocab, _ = load_model(Path(context.artifacts[ARTIFACT]), "fused")
        self.sampler = Sampler(model, self.vocab)

    def predict(self, model_input: list[SampledRow]) -> list[dict[str, str]]:  # type: ignore[valid-type]
        """For each row its `text`, without the prompt, and the `reason` why it ended: `length` or `stop`."""
        from charlstm.generation.sampler import Request

        given = cast(list[Row], model_input)
        rows = [{key: value for key, value in row if key in row.model_fields_set} for row in given]
        try:
            requests = parse_requests(rows, self.vocab)
        except TextRequestError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        written = self.sampler.generate(
            [Request(prompt, sampling) for prompt, sampling in requests]
        )
        return [{"text": one.text, "reason": one.reason} for one in written]


def parse_requests(
    rows: Sequence[Mapping[str, object]], vocab: Vocab
) -> list[tuple[str, Sampling]]:
    """Prompts, and how to go on from each, checked. None counts as not given, as an empty cell of a table does.

    Raises:
        TextRequestError: the first mistake.
    """
    if not rows or len(rows) > MAX_ROWS:
        raise TextRequestError(f"expected 1 to {MAX_ROWS} rows, got {len(rows)}")
    requests = []
    for number, row in enumerate(rows, 1):
        try:
            requests.append(_parse(row, vocab))
        except TextRequestError as error:
            raise TextRequestError(f"row {number}: {error}") from None
    if (
        total := sum(len(prompt) + sampling.num_chars for prompt, sampling in requests)
    ) > MAX_CHARS:
        raise TextRequestError(
            f"expected at most {MAX_CHARS:,} characters in all rows together, got {total:,}"
        )
    return requests


def _parse(row: Mapping[str, object], vocab: Vocab) -> tuple[str, Sampling]:
    for key in row:
        if key not in KEYS:
            raise TextRequestError(f"unknown key {short(key)}; known are {', '.join(KEYS)}")
    given = {key: value for key, value in row.items() if value is not None}
    prompt = readable("prompt", given.pop("prompt", ""), vocab, given.pop("unknown", "error"))
    if not prompt:
        raise TextRequestError("prompt: expected at least one character, e.g. a newline")
    sampling = Sampling.checked(**given)
    check_stops(sampling.stop, vocab)
    return prompt, sampling


set_model(ServedModel())
