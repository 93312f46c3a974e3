"""A trained model, which generates texts, scores texts, and continues from a saved state.

Shapes: N ids, L layers, H hidden units.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch
from torch.nn import functional

from charlstm.errors import TextRequestError
from charlstm.generation.sampler import Generated, Reason, Request, Sampler
from charlstm.language_model.scoring import Score
from charlstm.language_model.state import State
from charlstm.model.gates import LSTMState
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.protocols import LossSum, char_losses
from charlstm.sampling import Sampling, SamplingOptions, Unknown, checked_number, short
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of
from charlstm.text.prompts import check_stops, readable, replaced
from charlstm.text.vocabulary import UNSEEN, Ids
from charlstm.tracking.client import Store
from charlstm.tracking.registered_model import download_model, is_address

PROMPT = "\n"  # a generated text begins like a new line
Prompts = list[str] | tuple[str, ...]


class Text(str):
    """A generated text without its prompt: a `str` with the `reason` why the text ended.

    `reason` is `length` if the text has the requested length, or `stop` if it reached a stop text.
    """

    reason: Reason


class Options(SamplingOptions, total=False):
    """Options for generating a text, named as in `charlstm generate --help`."""

    unknown: Unknown
    state: State | None


class Model:
    """A trained language model, which `charlstm.load` returns.

    `vocab` is the model's vocabulary, which converts between text and ids.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.vocab = trained.vocab
        self._model = trained.model
        self._sha256 = trained.sha256
        self._state: State | None = None

    def __repr__(self) -> str:
        num_parameters = self._model.shape.num_parameters
        sizes = f"{num_parameters:,} parameters, {len(self.vocab)} {self.vocab.unit}s"
        return f"<charlstm.Model: {sizes}, SHA-256 {self._sha256[:8]}>"

    @property
    def state(self) -> State | None:
        """State after the last single text (generated, streamed, scored or read), or None.

        A stream sets the state when it ends. Until then, and if it is abandoned, the state is None.
        """
        return self._state

    @property
    def info(self) -> dict[str, Any]:
        """The model's sizes, parameter count and vocabulary, and the SHA-256 of its weights.

        The SHA-256 identifies the model. `unit` is `character` or `byte`. A byte model knows all
        characters, so its `characters` is None.
        """
        return {
            "model_sha256": self._sha256,
            "num_parameters": self._model.shape.num_parameters,
            **self._model.shape._asdict(),
            "unit": self.vocab.unit,
            "characters": self.vocab.characters or None,
        }

    @overload
    def generate(
        self, prompt: str = ..., *, num_texts: None = None, **options: Unpack[Options]
    ) -> Text: ...

    @overload
    def generate(
        self, prompt: str = ..., *, num_texts: int, **options: Unpack[Options]
    ) -> list[Text]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, num_texts: None = None, **options: Unpack[Options]
    ) -> list[Text]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, num_texts: int, **options: Unpack[Options]
    ) -> list[list[Text]]: ...

    def generate(
        self,
        prompt: str | Prompts = PROMPT,
        *,
        num_texts: int | None = None,
        **options: Unpack[Options],
    ) -> Text | list[Text] | list[list[Text]]:
        """Generate and return the text that follows `prompt`, without the prompt.

        The same arguments give the same text. For a list of prompts, the result is a list of the
        results of the single prompts. Generating them together is much faster.

        Args:
            prompt: a text, or a list of texts.
            num_texts: number of different texts for each prompt. With this option, the result for
                a prompt is a list, whose first text is the text without this option.
            options: `num_chars` (default 200) is the length. `stop` ends a text earlier: before
                the first of these texts, or after it with `keep_stop`. `temperature` (default 0.8)
                divides the logits, and 0 always takes the likeliest character. `top_k`, `top_p`
                and `min_p` exclude unlikely characters. `seed` (default 0) determines the choice
                among the other characters. `unknown` is `error` or `replace`, for characters of
                the prompt that the model never saw. `state` continues after the text that the
                state has read. With a state, the prompt may be empty.

        Raises:
            CharlstmError: an argument is wrong. The message names the argument and the expected
                values.
        """
        count = 1 if num_texts is None else int(checked_number("num_texts", num_texts))
        if is_list := isinstance(prompt, list | tuple):
            prompts = {f"prompt {number}": one for number, one in enumerate(prompt, 1)}
        else:
            prompts = {"prompt": prompt}
        requests = self._requests(prompts, options)
        generated = self._sampler.generate(
            [request._replace(number=number) for request in requests for number in range(count)]
        )
        texts = [_text(one) for one in generated]
        if num_texts is None:
            if is_list:
                return texts
            self._keep(generated[0].state)
            return texts[0]
        groups = [texts[start : start + count] for start in range(0, len(texts), count)]
        return groups if is_list else groups[0]

    def stream(self, prompt: str = PROMPT, **options: Unpack[Options]) -> Iterator[str]:
        """Yield the text that `generate` returns, one character at a time, during generation.

        Raises:
            CharlstmError: an argument is wrong. The error is raised by the call, before the first
                character is requested.
        """
        (request,) = self._requests({"prompt": prompt}, options)
        return self._stream(request)

    @torch.no_grad()
    def score(self, text: str, *, unknown: Unknown = "error", state: State | None = None) -> Score:
        """Return the loss of each character of `text`. With `state`, continue from that state.

        Characters that the model never saw are read as U+FFFD, as in the evaluate stage, if the
        vocabulary has U+FFFD. Otherwise `unknown` decides.

        Raises:
            CharlstmError: there is no character to score, the model never saw a character, or the
                state belongs to another model.
        """
        text = self._scorable(text, unknown)
        before = self._lstm_state(state)
        if len(text) < 2 and before is None:
            raise TextRequestError(
                "text: expected at least two characters, or one character and a state"
            )
        ids = self._ids(text)
        unit = self.vocab.unit
        start = before or self._model.zero_state(1)
        nats_N, before_last = char_losses(self._model, EncodedText(ids), start)

        # Without a state, nothing predicts the first character.
        first_nats = math.nan
        first_scored = EncodedText(ids, unit).first_input + 1
        if before is not None:
            target = torch.tensor([int(ids[0])])
            first_nats = float(functional.cross_entropy(self._model.logits_after(before), target))
            first_scored = 0
        self._keep(self._read(ids[-1:], before_last))

        nats_N = np.concatenate([[first_nats], nats_N])
        num_chars = num_chars_of(ids[first_scored:], unit)
        total = LossSum(math.fsum(nats_N[first_scored:]), num_chars)
        first_ids = np.flatnonzero(begins_character(ids, unit))
        return Score(text, np.add.reduceat(nats_N, first_ids), total)

    def read(self, text: str, *, unknown: Unknown = "error", state: State | None = None) -> State:
        """Read `text` and return the resulting state. With `state`, continue from that state.

        Raises:
            CharlstmError: `text` is empty, the model never saw a character, or the state belongs
                to another model.
        """
        ids = self._ids(self._scorable(text, unknown))
        before = self._lstm_state(state) or self._model.zero_state(1)
        return self._keep(self._read(ids, before))

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self._model, self.vocab)

    def _requests(self, prompts: Mapping[str, str], options: Options) -> list[Request]:
        """Return one request per prompt. Messages refer to prompts by the keys of `prompts`."""
        unknown = options.pop("unknown", "error")
        state = self._lstm_state(options.pop("state", None))
        if wrong := sorted(options.keys() - set(Sampling._fields)):
            from charlstm.files.documents import did_you_mean  # imports pydantic, which is slow

            near = did_you_mean(wrong[0], Sampling._fields)
            raise TypeError(f"generate() got an unexpected keyword argument {wrong[0]!r}{near}")
        sampling = Sampling.checked(**options)
        check_stops(sampling.stop, self.vocab)
        requests = []
        for name, prompt in prompts.items():
            text = readable(name, prompt, self.vocab, unknown)
            if not text and state is None:
                raise TextRequestError(f"{name}: expected at least one character, e.g. a newline")
            requests.append(Request(text, sampling, state=state))
        return requests

    def _stream(self, request: Request) -> Iterator[str]:
        self._state = None
        self._keep((yield from self._sampler.stream(request)))

    def _scorable(self, text: str, unknown: Unknown) -> str:
        """Check that `text` can be scored. Replace unknown characters on request."""
        has_unseen_sign = not self.vocab.unknown(UNSEEN)
        if not (has_unseen_sign and isinstance(text, str) and unknown == "error"):
            text = readable("text", text, self.vocab, unknown)
        if not text:
            raise TextRequestError("text: expected at least one character")
        return text

    def _ids(self, text: str) -> Ids:
        return self.vocab.encode(replaced(text, self.vocab))

    def _lstm_state(self, state: object) -> LSTMState | None:
        if state is None:
            return None
        if not isinstance(state, State):
            raise TextRequestError(f"state: expected a charlstm.State, got {short(state)}")
        return state.of(self._sha256)

    @torch.no_grad()
    def _read(self, ids: Ids, state: LSTMState) -> LSTMState:
        """Read `ids`, starting from `state`, and return the resulting state."""
        _, before_last = char_losses(self._model, EncodedText(ids), state)
        _, after = self._model(torch.tensor([[int(ids[-1])]]), before_last)
        return after  # type: ignore[no-any-return]  # a module's call has no type

    def _keep(self, state: LSTMState) -> State:
        self._state = State(state, self._sha256)
        return self._state


def _text(generated: Generated) -> Text:
    text = Text(generated.text)
    text.reason = generated.reason
    return text


def load(where: str | PathLike[str], *, tracking_uri: str | None = None) -> Model:
    """Load a trained model, which runs on the CPU in fp32.

    Args:
        where: a model folder (`artifacts/model`) or an MLflow address: `models:/NAME@champion`,
            `models:/NAME/VERSION` (NAME is `charlstm-CORPUS`), `models:/MODEL_ID` or
            `runs:/RUN_ID`.
        tracking_uri: MLflow store of the address. Default: MLflow's own choice, which is
            `mlflow.set_tracking_uri`, then `MLFLOW_TRACKING_URI`, then `mlflow.db` in the current
            folder.

    Raises:
        CharlstmError: the model does not exist or is damaged, or the MLflow store does not answer.
    """
    if not is_address(fspath(where)):
        return Model(load_model(Path(where), "fused"))
    store = Store(tracking_uri) if tracking_uri else None
    with tempfile.TemporaryDirectory() as folder:
        return Model(load_model(download_model(fspath(where), Path(folder), store), "fused"))
