"""A trained model: it writes texts, scores texts, and reads on from a state.

Shapes: N characters, L layers, H hidden units, V vocabulary.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional

from charlstm.errors import CharlstmError, TextRequestError
from charlstm.files.atomic import write_bytes
from charlstm.generation.sampler import Reason, Request, Sampler
from charlstm.language_model.scoring import Score
from charlstm.model.gates import LSTMState
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.protocols import LossSum, char_losses
from charlstm.prompts import check_stops, readable, replaced
from charlstm.sampling import Sampling, SamplingOptions, Unknown, short, whole
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of
from charlstm.text.vocabulary import UNSEEN, Ids
from charlstm.tracking.client import Store
from charlstm.tracking.registered_model import download_model, is_address

# A state: what a model has read, kept in memory, or in a file that names its model and has a checksum.

MODEL = "model_sha256"  # the key of the file's metadata
CHECKSUM = "sha256"  # a tensor, since safetensors writes several keys of metadata in a different order each time
DTYPES = {"hidden": torch.float32, "cell": torch.float32, CHECKSUM: torch.uint8}


class State:
    """Hidden and cell state of a model after a text: all that it knows of it. `model_sha256` names the model."""

    def __init__(self, lstm: LSTMState, model_sha256: str) -> None:
        self.lstm, self.model_sha256 = lstm, model_sha256

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, State)
            and self.model_sha256 == other.model_sha256
            and torch.equal(self.lstm.hidden, other.lstm.hidden)
            and torch.equal(self.lstm.cell, other.lstm.cell)
        )

    __hash__ = None  # type: ignore[assignment]  # tensors can change

    def __repr__(self) -> str:
        layers, _, hidden = self.lstm.hidden.shape
        return f"<charlstm.State of {layers} x {hidden} units, model {self.model_sha256[:8]}>"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        tensors = {name: one.contiguous() for name, one in self.lstm._asdict().items()}
        checksum = torch.frombuffer(bytearray(self._digest()), dtype=torch.uint8)
        write_bytes(Path(path), save({**tensors, CHECKSUM: checksum}, {MODEL: self.model_sha256}))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "State":
        """Read what `save` wrote.

        Raises:
            CharlstmError: the file is missing, damaged, or something else.
        """
        try:
            Path(path).open("rb").close()
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise CharlstmError(f"{path}: expected a saved state, cannot read it: {reason}") from None
        if {name: one.dtype for name, one in found.items()} != DTYPES or MODEL not in metadata:
            raise CharlstmError(f"{path}: expected a saved state of a model, found another file of safetensors")
        checksum = bytes(found.pop(CHECKSUM).flatten().tolist())
        state = cls(LSTMState(**found), metadata[MODEL])
        if checksum != state._digest():
            raise CharlstmError(
                f"{path}: expected a saved state as it was written, found another checksum: it is damaged"
            )
        return state

    def of(self, model_sha256: str) -> LSTMState:
        """The tensors, for that model.

        Raises:
            CharlstmError: they are another model's.
        """
        if self.model_sha256 != model_sha256:
            raise CharlstmError(
                f"state: expected one of the model {model_sha256[:12]}, got one of {self.model_sha256[:12]}; "
                "read the text with this model"
            )
        return self.lstm

    def _digest(self) -> bytes:
        found = sha256(self.model_sha256.encode())
        for one in self.lstm:
            found.update(one.contiguous().numpy().tobytes())
        return found.digest()


# The model.

PROMPT = "\n"  # a text begins as a line does
Prompts = list[str] | tuple[str, ...]


class Text(str):
    """A generated text, without its prompt: a `str`. `reason` says why it ended.

    `length`: it has as many characters as were asked for. `stop`: it came to a stop text.
    """

    reason: Reason

    def __new__(cls, text: str, reason: Reason) -> "Text":
        """The text as it is."""
        new = super().__new__(cls, text)
        new.reason = reason
        return new

    def __getnewargs__(self) -> tuple[str, Reason]:  # type: ignore[override]  # of what pickle makes it again
        """The arguments of `__new__`, for copies and for other processes."""
        return str(self), self.reason


class Options(SamplingOptions, total=False):
    """Options of a text to write. Each has the same name in the shell: `charlstm generate --help`."""

    unknown: Unknown
    state: State | None


class Model:
    """A trained character model. `charlstm.load` makes one."""

    def __init__(self, trained: TrainedModel) -> None:
        self._model, self._vocab, self._sha256 = trained
        self._state: State | None = None

    def __repr__(self) -> str:
        sizes = f"{self._model.shape.num_parameters:,} parameters, {len(self._vocab)} {self._vocab.unit}s"
        return f"<charlstm.Model: {sizes}, SHA-256 {self._sha256[:8]}>"

    def __getstate__(self) -> dict[str, Any]:
        """All but the sampler, which is made anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_sampler"}

    @property
    def state(self) -> State | None:
        """The state after the last `generate` of one text, `stream`, `score` or `read`; None before any of them.

        A stream leaves one at its end: None while it is read, and if it is left before.
        """
        return self._state

    @property
    def info(self) -> dict[str, Any]:
        """Sizes, number of parameters, vocabulary, and the SHA-256 of the weights, which is the model's name.

        `unit` is `character` or `byte`. A model of bytes knows all characters: `characters` is None.
        """
        return {
            "model_sha256": self._sha256,
            "num_parameters": self._model.shape.num_parameters,
            **self._model.shape._asdict(),
            "unit": self._vocab.unit,
            "characters": self._vocab.characters or None,
        }

    @overload
    def generate(self, prompt: str = ..., *, num_texts: None = None, **options: Unpack[Options]) -> Text: ...

    @overload
    def generate(self, prompt: str = ..., *, num_texts: int, **options: Unpack[Options]) -> list[Text]: ...

    @overload
    def generate(self, prompt: Prompts, *, num_texts: None = None, **options: Unpack[Options]) -> list[Text]: ...

    @overload
    def generate(self, prompt: Prompts, *, num_texts: int, **options: Unpack[Options]) -> list[list[Text]]: ...

    def generate(
        self, prompt: str | Prompts = PROMPT, *, num_texts: int | None = None, **options: Unpack[Options]
    ) -> Text | list[Text] | list[list[Text]]:
        """A text that follows `prompt`, which is not repeated; with `num_texts` a list of as many different ones.

        Of a list of prompts, a list with what each alone gives; all are written together, which is much faster.

        The same arguments give the same text, and one text is the first of several. It has `num_chars` (200 by default)
        characters, or fewer if it comes to one of `stop`, before which it ends, or after it with `keep_stop`.
        `temperature` (0.8) divides the logits (0: always the likeliest character). `top_k`, `top_p` and `min_p` leave
        out unlikely characters, and `seed` (0) chooses among the others. `unknown` says what becomes of characters of
        the prompt that the model never saw: `error` or `replace`. With a `state`, the model goes on from what
        it has read, and the prompt may be empty.

        Raises:
            CharlstmError: an argument is wrong; one line says which, and what was expected.
        """
        count = 1 if num_texts is None else whole("num_texts", num_texts)
        if is_one := not isinstance(prompt, list | tuple):
            prompts = {"prompt": prompt}
        else:
            prompts = {f"prompt {number}": one for number, one in enumerate(prompt, 1)}
        requests = self._requests(prompts, options)
        written = self._sampler.generate([one._replace(number=n) for one in requests for n in range(count)])
        if is_one and num_texts is None:
            self._keep(written[0].state)
        texts = [Text(one.text, one.reason) for one in written]
        if num_texts is None:
            return texts[0] if is_one else texts
        return texts if is_one else [texts[start : start + count] for start in range(0, len(texts), count)]

    def stream(self, prompt: str = PROMPT, **options: Unpack[Options]) -> Iterator[str]:
        """The characters of the same text as `generate` gives, as they are drawn.

        Raises:
            CharlstmError: at once, as `generate` does.
        """
        (request,) = self._requests({"prompt": prompt}, options)
        return self._stream(request)

    @torch.no_grad()
    def score(self, text: str, *, unknown: Unknown = "error", state: State | None = None) -> Score:
        """What `text` costs, character by character; the text is read from its beginning, or on from `state`.

        Characters that the model never saw are read as the evaluate stage reads them: as U+FFFD, if that is in the
        vocabulary. Where it is not, `unknown` says what becomes of them.

        Raises:
            CharlstmError: there is no character to score, one that the model never saw, or the state is another
                model's.
        """
        text, before = self._scorable(text, unknown), self._lstm_state(state)
        if len(text) < 2 and before is None:
            raise TextRequestError("text: expected at least two characters, of which the second is scored")
        ids = self._vocab.encode(replaced(text, self._vocab))
        nats_N, before_last = char_losses(self._model, EncodedText(ids), before or self._model.zero_state(1))
        first = math.nan
        if before is not None:
            target = torch.tensor([int(ids[0])])
            first = float(functional.cross_entropy(self._model.logits_after(before), target))
        self._keep(self._read(ids[-1:], before_last))
        nats_N, unit = np.concatenate([[first], nats_N]), self._vocab.unit
        start = EncodedText(ids, unit).first_input + 1 if before is None else 0
        total = LossSum(math.fsum(nats_N[start:]), num_chars_of(ids[start:], unit))
        return Score(text, np.add.reduceat(nats_N, np.flatnonzero(begins_character(ids, unit))), total)

    def read(self, text: str, *, unknown: Unknown = "error", state: State | None = None) -> State:
        """The state after `text`, read from its beginning, or on from `state`.

        Raises:
            CharlstmError: as `score` does.
        """
        text, before = self._scorable(text, unknown), self._lstm_state(state)
        return self._keep(
            self._read(self._vocab.encode(replaced(text, self._vocab)), before or self._model.zero_state(1))
        )

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self._model, self._vocab)

    def _requests(self, prompts: Mapping[str, str], options: Options) -> list[Request]:
        """A request for each prompt; the prompts' names are for messages."""
        unknown, state = options.pop("unknown", "error"), self._lstm_state(options.pop("state", None))
        if wrong := sorted(options.keys() - set(Sampling._fields)):
            from charlstm.files.documents import did_you_mean  # pydantic

            near = did_you_mean(wrong[0], Sampling._fields)
            raise TypeError(f"generate() got an unexpected keyword argument {wrong[0]!r}{near}")
        sampling = Sampling.checked(**options)
        check_stops(sampling.stop, self._vocab)
        texts = {name: readable(name, prompt, self._vocab, unknown) for name, prompt in prompts.items()}
        for name, prompt in texts.items():
            if not prompt and state is None:
                raise TextRequestError(f"{name}: expected at least one character, e.g. a newline")
        return [Request(prompt, sampling, state=state) for prompt in texts.values()]

    def _stream(self, request: Request) -> Iterator[str]:
        self._state = None
        self._keep((yield from self._sampler.stream(request)))

    def _scorable(self, text: str, unknown: Unknown) -> str:
        """`text` of characters that the model knows, or has a sign for."""
        has_sign = isinstance(text, str) and not self._vocab.unknown(UNSEEN)
        found = text if has_sign and unknown == "error" else readable("text", text, self._vocab, unknown)
        if not found:
            raise TextRequestError("text: expected at least one character")
        return found

    def _lstm_state(self, state: object) -> LSTMState | None:
        if state is None:
            return None
        if not isinstance(state, State):
            raise TextRequestError(f"state: expected a charlstm.State, got {short(state)}")
        return state.of(self._sha256)

    @torch.no_grad()
    def _read(self, ids: Ids, state: LSTMState) -> LSTMState:
        """The state after all of `ids`."""
        _, before_last = char_losses(self._model, EncodedText(ids), state)
        _, after = self._model(torch.tensor([[int(ids[-1])]]), before_last)
        return after  # type: ignore[no-any-return]  # a module's call has no type

    def _keep(self, state: LSTMState) -> State:
        self._state = State(state, self._sha256)
        return self._state


# From a folder or an address of MLflow to a model.


def load(where: str | PathLike[str], *, tracking_uri: str | None = None) -> Model:
    """The trained model in a folder, or at an address of MLflow.

    `where` is a model folder (`artifacts/model`), or `models:/NAME@champion`, `models:/NAME/VERSION` (NAME is
    `charlstm-CORPUS`), `models:/MODEL_ID` or `runs:/RUN_ID`. These are asked of `tracking_uri`, or where MLflow itself
    looks: what `mlflow.set_tracking_uri` or `MLFLOW_TRACKING_URI` says, else `mlflow.db` in the current folder. The
    model runs on the CPU, in fp32.

    Raises:
        CharlstmError: there is no such model, it is damaged, or the MLflow store does not answer; one line says which.
    """
    if not is_address(fspath(where)):
        return Model(load_model(Path(where), "fused"))
    return load_from_store(fspath(where), Store(tracking_uri) if tracking_uri else None)


def load_from_store(address: str, store: Store | None) -> Model:
    """The model at an address of MLflow.

    Raises:
        CharlstmError: as `load` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Model(load_model(download_model(address, Path(folder), store), "fused"))
