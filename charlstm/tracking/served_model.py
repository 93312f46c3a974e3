"""The model as MLflow loads and serves it. MLflow copies this file beside the weights and runs it: nothing is pickled.

MLflow also runs it in the process that logs a model, which has no use for torch. So torch is imported on loading.
"""

from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import BaseModel, ConfigDict, SkipValidation

from charlstm.errors import TextRequestError
from charlstm.tracking.text_requests import parse_requests

ARTIFACT = "model"  # the model folder's name among the artifacts


class Row(BaseModel):
    """The columns, for MLflow's signature only. Every value and every key passes, to be checked by `parse_requests`.

    With a signature of named columns MLflow drops unknown ones and converts types without a word. pydantic's own
    messages have many lines.
    """

    model_config = ConfigDict(extra="allow")

    prompt: SkipValidation[str] = ""
    num_chars: SkipValidation[int | None] = None
    temperature: SkipValidation[float | None] = None
    top_k: SkipValidation[int | None] = None
    top_p: SkipValidation[float | None] = None
    min_p: SkipValidation[float | None] = None
    seed: SkipValidation[int | None] = None
    stop: SkipValidation[list[str] | None] = None
    keep_stop: SkipValidation[bool | None] = None


class BadRequest(MlflowException):  # type: ignore[misc]  # MLflow has no annotations
    """Answered with 400. The message stays as it is: the scoring server would put all of the data before it."""

    @property
    def message(self) -> str:
        """One line."""
        return self._message

    @message.setter
    def message(self, message: str) -> None:
        if not hasattr(self, "_message"):
            self._message = message


class ServedModel(PythonModel):  # type: ignore[misc]  # likewise
    """Rows in, texts out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder."""
        from charlstm.generation.sampler import Sampler
        from charlstm.model.model_folder import load_model

        model, self.vocab, _ = load_model(Path(context.artifacts[ARTIFACT]), "fused")
        self.sampler = Sampler(model, self.vocab)

    def predict(self, model_input: list[Row]) -> list[dict[str, str]]:
        """For each row its `text`, without the prompt, and the `reason` why it ended: `length` or `stop`.

        Raises:
            BadRequest: what `parse_requests` says.
        """
        from charlstm.generation.sampler import Request

        rows = [{key: value for key, value in row if key in row.model_fields_set} for row in model_input]
        try:
            requests = parse_requests(rows, self.vocab)
        except TextRequestError as error:
            raise BadRequest(str(error), INVALID_PARAMETER_VALUE) from None
        written = self.sampler.generate([Request(prompt, sampling) for prompt, sampling in requests])
        return [{"text": one.text, "reason": one.reason} for one in written]


set_model(ServedModel())
