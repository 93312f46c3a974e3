"""Generation of many texts together, in which each text is the same as if it were generated alone.

A text depends only on the model, its initial state, its prompt, its sampling options (with the
seed) and its number. It is the same on every machine and in every batch.

Shapes: L layers, R rows, T characters, H hidden units.
"""

from collections.abc import Generator, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from charlstm.generation.kernels import Rules
from charlstm.generation.quantized import quantize
from charlstm.generation.random_numbers import key_of, uniforms
from charlstm.generation.stepper import QuantizedState, Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.text.utf8 import utf8_state
from charlstm.text.vocabulary import Decoder, Vocab

Reason = Literal["length", "stop"]

# Ids written in each row before stop strings are searched and an interruption is noticed.
CHUNK: Final = 256
STREAM_CHUNK: Final = 8


class Request(NamedTuple):
    """Request for the text that follows `prompt`, drawn by the options in `sampling`.

    `number` is the index among the texts with the same prompt and seed. `state` (L, 1, H) is the
    model's state before the prompt, which may be empty if there is a state.
    """

    prompt: str
    sampling: Sampling
    number: int = 0
    state: LSTMState | None = None

    def key(self) -> int:
        """Return the 64-bit key of the text's random numbers."""
        read = QuantizedState.of(self.state).hidden_RLH.tobytes() if self.state else b""
        return key_of(self.sampling.seed, self.prompt, self.number, read)


class Generated(NamedTuple):
    """Generated text without its prompt.

    `state` (L, 1, H) is the model's state after the last character or, if there is one, the stop
    string. `reason` is `length` if the text has the requested length, or `stop` if a stop string
    ended it.
    """

    text: str
    state: LSTMState
    reason: Reason


class Sampler:
    """Writer of texts with the weights that `model` has when the sampler is created."""

    def __init__(self, model: CharLSTM, vocab: Vocab) -> None:
        self._vocab = vocab
        self._stepper = Stepper(quantize(model))

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """Return a text for each request.

        Raises:
            VocabularyError: a prompt has characters that the vocabulary lacks.
        """
        if not requests:
            return []
        batch = Rows(self._stepper, self._vocab, requests)
        while batch.active:
            batch.advance(CHUNK)
        return [batch.done[row] for row in range(len(requests))]

    def stream(self, request: Request) -> Generator[str, None, LSTMState]:
        """Yield the text of `generate` character by character. Return the state after the text.

        Characters that may begin a stop string are held back until the next characters decide.
        """
        # A stop string that stays in the text need not be held back.
        stops = () if request.sampling.keep_stop else request.sampling.stop
        batch = Rows(self._stepper, self._vocab, [request])
        num_yielded = 0
        while batch.active:
            batch.advance(STREAM_CHUNK)
            if batch.done:
                ready = batch.done[0].text
            else:
                text = batch.texts[0]
                ready = text[: len(text) - num_pending(text, stops)]
            yield from ready[num_yielded:]
            num_yielded = len(ready)
        return batch.done[0].state


class Rows:
    """Rows of a batch: their `texts` so far, finished texts (`done`, by row), and `active` rows.

    Every active row has the same number of ids, which are characters or bytes. In a byte model,
    `texts` has whole characters, and the decoder keeps the bytes of an incomplete character.
    """

    def __init__(self, stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> None:
        self._stepper = stepper
        self._vocab = vocab
        self._requests = requests
        self.texts = [""] * len(requests)
        self._decoders = [Decoder(vocab) for _ in requests]
        self.done: dict[int, Generated] = {}
        self._num_written = 0
        self.active = list(range(len(requests)))
        self._state = _states_after_prompts(stepper, vocab, requests)
        self._keys_R = np.array([request.key() for request in requests], np.uint64)
        self._rules = Rules.of([request.sampling for request in requests], len(vocab))

    def advance(self, most: int) -> None:
        """Write up to `most` ids in each active row."""
        active = self.active
        before = self._state
        # A character has at least one id, so no row gets more characters than requested.
        missing = (self._requests[row].sampling.num_chars - len(self.texts[row]) for row in active)
        uniforms_RT = uniforms(self._keys_R, self._num_written, min(most, *missing))
        utf8_R = None
        if self._vocab.unit == "byte":
            utf8_R = np.array([utf8_state(self._decoders[row].waiting) for row in active])
        ids_RT, self._state = self._stepper.write(before, self._rules, uniforms_RT, utf8_R)

        for position, row in enumerate(active):
            sampling = self._requests[row].sampling
            start = len(self.texts[row])
            self.texts[row] += self._decoders[row].decode(ids_RT[position].tolist())
            text = self.texts[row]
            if span := cut_at_stop(text, start, sampling.stop):
                end, stop_start = span
                # The state must not include characters after the stop string.
                num_read = self._vocab.num_ids(text[:end]) - self._num_written
                state = self._stepper.read(ids_RT[[position], :num_read], before.rows([position]))
                written = text[: end if sampling.keep_stop else stop_start]
                self.done[row] = Generated(written, state.dequantized(), "stop")
            elif len(text) == sampling.num_chars:
                state = self._state.rows([position])
                self.done[row] = Generated(text, state.dequantized(), "length")

        self._num_written += ids_RT.shape[1]
        kept = [position for position, row in enumerate(active) if row not in self.done]
        self.active = [active[position] for position in kept]
        self._state = self._state.rows(kept)
        self._keys_R = self._keys_R[kept]
        self._rules = self._rules.rows(kept)


def _states_after_prompts(
    stepper: Stepper, vocab: Vocab, requests: Sequence[Request]
) -> QuantizedState:
    """Return the states of all rows. A prompt that several requests share is read once."""
    states: dict[tuple[str, int], QuantizedState] = {}
    rows = []
    for request in requests:
        key = (request.prompt, id(request.state))
        if key not in states:
            state = QuantizedState.of(request.state) if request.state else stepper.zero_state(1)
            states[key] = stepper.read(vocab.encode(request.prompt).astype(np.int64)[None], state)
        rows.append(states[key])
    return QuantizedState(*map(np.concatenate, zip(*rows, strict=True)))


def cut_at_stop(text: str, start: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """Return the end and the start of the first stop string that ends after `start`, or None."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), len(stop)) for stop in stops]
    return min(((at + length, at) for at, length in found if at >= 0), default=None)


def num_pending(text: str, stops: Sequence[str]) -> int:
    """Return the number of characters at the end of `text` that may begin a stop string."""
    lengths = (
        length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])
    )
    return max(lengths, default=0)
