"""The model class that MLflow loads and serves.

MLflow copies this file next to the weights and runs it, so nothing is pickled. MLflow also runs it
in the process that logs a model, which does not need torch. So torch is imported only when the
weights are loaded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import ConfigDict, SkipValidation, create_model

from charlstm.errors import TextRequestError
from charlstm.sampling import TYPES, Sampling, short
from charlstm.text.prompts import check_stops, readable
from charlstm.text.vocabulary import Vocab

MAX_ROWS = 100
MAX_CHARS = 100_000  # total of all prompts and texts in a request: about 20 s on a CPU
_OPTIONS = {"unknown": str, **TYPES}
_FIELDS: Any = {
    name: (SkipValidation[kind | None], None)  # type: ignore[valid-type,misc]  # made at run time
    for name, kind in _OPTIONS.items()
}
# This type only gives MLflow a signature. `parse_requests` checks the rows.
# MLflow's own checks would silently drop unknown keys and convert types.
SampledRow = create_model(
    "SampledRow",
    __config__=ConfigDict(extra="allow"),
    prompt=(SkipValidation[str], ""),
    **_FIELDS,
)


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no type annotations
    """An MLflow model that continues the prompt of each row with a generated text."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and the vocabulary from the model folder."""
        from charlstm.generation.sampler import Sampler
        from charlstm.model.model_folder import load_model

        model, self.vocab, _ = load_model(Path(context.artifacts["model"]), "fused")
        self.sampler = Sampler(model, self.vocab)

    def predict(
        self,
        model_input: list[SampledRow],  # type: ignore[valid-type]
    ) -> list[dict[str, str]]:
        """Return each row's text without the prompt, and why the text ended: `length` or `stop`."""
        from charlstm.generation.sampler import Request

        rows: list[Any] = model_input
        try:
            requests = parse_requests([dict(row) for row in rows], self.vocab)
        except TextRequestError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        texts = self.sampler.generate([Request(*request) for request in requests])
        return [{"text": text.text, "reason": text.reason} for text in texts]


def parse_requests(
    rows: Sequence[Mapping[str, object]], vocab: Vocab
) -> list[tuple[str, Sampling]]:
    """Check the rows of a request. Return each row's prompt and sampling options.

    A value of None, such as an empty cell of a table, means the default.

    Raises:
        TextRequestError: a row is wrong. The message says which row, what was expected and what
            was found.
    """
    if not rows or len(rows) > MAX_ROWS:
        raise TextRequestError(f"expected 1 to {MAX_ROWS} rows, got {len(rows)}")
    requests = []
    for number, row in enumerate(rows, 1):
        try:
            requests.append(_parse(row, vocab))
        except TextRequestError as error:
            raise TextRequestError(f"row {number}: {error}") from None
    total = sum(len(prompt) + sampling.num_chars for prompt, sampling in requests)
    if total > MAX_CHARS:
        raise TextRequestError(
            f"expected at most {MAX_CHARS:,} characters across all rows, got {total:,}"
        )
    return requests


def _parse(row: Mapping[str, object], vocab: Vocab) -> tuple[str, Sampling]:
    keys = SampledRow.model_fields
    for key in row:
        if key not in keys:
            raise TextRequestError(f"unknown key {short(key)}; expected one of {', '.join(keys)}")
    given = {key: value for key, value in row.items() if value is not None}
    prompt = readable("prompt", given.pop("prompt", ""), vocab, given.pop("unknown", "error"))
    if not prompt:
        raise TextRequestError("prompt: expected at least one character, e.g. a newline")
    sampling = Sampling.checked(**given)
    check_stops(sampling.stop, vocab)
    return prompt, sampling


set_model(ServedModel())
