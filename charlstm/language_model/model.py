"""A trained model: it writes texts, scores texts, and reads on from a state.

Shapes: N characters, L layers, H hidden units, V vocabulary.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Unpack, overload

import numpy as np
import torch
from torch.nn import functional

from charlstm.errors import TextRequestError
from charlstm.generation.sampler import Reason, Request, Sampler
from charlstm.language_model.scoring import Score
from charlstm.language_model.state import State
from charlstm.model.gates import LSTMState
from charlstm.model.model_folder import TrainedModel
from charlstm.model.protocols import LossSum, char_losses
from charlstm.sampling import Sampling, SamplingOptions, Unknown, short, whole
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of
from charlstm.text.vocabulary import UNSEEN, Ids
from charlstm.unknown_characters import check_stops, readable, replaced

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
        self._model, self.vocab, self._sha256 = trained
        self._state: State | None = None

    def __repr__(self) -> str:
        sizes = (
            f"{self._model.shape.num_parameters:,} parameters, {len(self.vocab)} {self.vocab.unit}s"
        )
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
        written = self._sampler.generate(
            [one._replace(number=n) for one in requests for n in range(count)]
        )
        if is_one and num_texts is None:
            self._keep(written[0].state)
        texts = [Text(one.text, one.reason) for one in written]
        if num_texts is None:
            return texts[0] if is_one else texts
        return (
            texts
            if is_one
            else [texts[start : start + count] for start in range(0, len(texts), count)]
        )

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
            raise TextRequestError(
                "text: expected at least two characters, of which the second is scored"
            )
        ids = self.vocab.encode(replaced(text, self.vocab))
        nats_N, before_last = char_losses(
            self._model, EncodedText(ids), before or self._model.zero_state(1)
        )
        first = math.nan
        if before is not None:
            target = torch.tensor([int(ids[0])])
            first = float(functional.cross_entropy(self._model.logits_after(before), target))
        self._keep(self._read(ids[-1:], before_last))
        nats_N, unit = np.concatenate([[first], nats_N]), self.vocab.unit
        start = EncodedText(ids, unit).first_input + 1 if before is None else 0
        total = LossSum(math.fsum(nats_N[start:]), num_chars_of(ids[start:], unit))
        return Score(
            text, np.add.reduceat(nats_N, np.flatnonzero(begins_character(ids, unit))), total
        )

    def read(self, text: str, *, unknown: Unknown = "error", state: State | None = None) -> State:
        """The state after `text`, read from its beginning, or on from `state`.

        Raises:
            CharlstmError: as `score` does.
        """
        text, before = self._scorable(text, unknown), self._lstm_state(state)
        return self._keep(
            self._read(
                self.vocab.encode(replaced(text, self.vocab)), before or self._model.zero_state(1)
            )
        )

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self._model, self.vocab)

    def _requests(self, prompts: Mapping[str, str], options: Options) -> list[Request]:
        """A request for each prompt; the prompts' names are for messages."""
        unknown, state = (
            options.pop("unknown", "error"),
            self._lstm_state(options.pop("state", None)),
        )
        if wrong := sorted(options.keys() - set(Sampling._fields)):
            from charlstm.files.documents import did_you_mean  # pydantic

            near = did_you_mean(wrong[0], Sampling._fields)
            raise TypeError(f"generate() got an unexpected keyword argument {wrong[0]!r}{near}")
        sampling = Sampling.checked(**options)
        check_stops(sampling.stop, self.vocab)
        texts = {
            name: readable(name, prompt, self.vocab, unknown) for name, prompt in prompts.items()
        }
        for name, prompt in texts.items():
            if not prompt and state is None:
                raise TextRequestError(f"{name}: expected at least one character, e.g. a newline")
        return [Request(prompt, sampling, state=state) for prompt in texts.values()]

    def _stream(self, request: Request) -> Iterator[str]:
        self._state = None
        self._keep((yield from self._sampler.stream(request)))

    def _scorable(self, text: str, unknown: Unknown) -> str:
        """`text` of characters that the model knows, or has a sign for."""
        has_sign = isinstance(text, str) and not self.vocab.unknown(UNSEEN)
        found = (
            text if has_sign and unknown == "error" else readable("text", text, self.vocab, unknown)
        )
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
