"""Writing texts, many at once, each as it would be alone.

A text is a function of the model, the state that it begins from, its prompt, its rule, its seed and its number, on
every machine and in every batch.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units.
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


class Request(NamedTuple):
    """A text to write: what follows `prompt`, drawn as `sampling` says.

    `number` counts the texts of one prompt and seed. `state` (L, 1, H) is what was read before the prompt; the prompt
    may be empty then.
    """

    prompt: str
    sampling: Sampling
    number: int = 0
    state: LSTMState | None = None

    def key(self) -> int:
        """64 bits that begin the text's random numbers."""
        read = QuantizedState.of(self.state).hidden_RLH.tobytes() if self.state else b""
        return key_of(self.sampling.seed, self.prompt, self.number, read)


class Generated(NamedTuple):
    """A text without its prompt, and the state (L, 1, H) after all that was read and drawn, a stop string included.

    `reason` says why it ended: it has the `length` that was asked for, or came to a `stop` string.
    """

    text: str
    state: LSTMState
    reason: Reason


class Rows:
    """Written together: `texts` so far, those that are `done`, by row, and the `active` rows.

    The active ones have `num_written` ids, of characters or of bytes. A text of bytes has its whole characters in
    `texts`, and the first bytes of the next one in its decoder.
    """

    def __init__(self, stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> None:
        self._stepper, self._vocab, self._requests = stepper, vocab, requests
        self.texts, self._decoders = [""] * len(requests), [Decoder(vocab) for _ in requests]
        self.done: dict[int, Generated] = {}
        self.num_written = 0
        self.active = list(range(len(requests)))
        self._state = _states_after_prompts(stepper, vocab, requests)
        self._keys_R = np.array([one.key() for one in requests], np.uint64)
        self._rules = Rules.of([one.sampling for one in requests], len(vocab))

    def advance(self, most: int) -> None:
        """Write up to `most` ids in each row that is not done."""
        active, before, utf8_R = self.active, self._state, None
        # A character has at least one id, so no row gets more characters than it asked for.
        count = min(
            most, *(self._requests[row].sampling.num_chars - len(self.texts[row]) for row in active)
        )
        if self._vocab.unit == "byte":
            utf8_R = np.array([utf8_state(self._decoders[row].waiting) for row in active])
        uniforms_RT = uniforms(self._keys_R, self.num_written, count)
        ids_RT, self._state = self._stepper.write(before, self._rules, uniforms_RT, utf8_R)
        for position, row in enumerate(active):
            sampling, start = self._requests[row].sampling, len(self.texts[row])
            self.texts[row] += self._decoders[row].decode(ids_RT[position].tolist())
            text = self.texts[row]
            if span := cut_at_stop(text, start, sampling.stop):
                num_read = self._vocab.num_ids(text[: span[1]]) - self.num_written
                read = self._stepper.read(
                    ids_RT[position, None, :num_read], before.rows([position])
                )
                end = span[1] if sampling.keep_stop else span[0]
                self.done[row] = Generated(text[:end], read.dequantized(), "stop")
            elif len(text) == sampling.num_chars:
                self.done[row] = Generated(
                    text, self._state.rows([position]).dequantized(), "length"
                )
        self.num_written += count
        kept = [position for position, row in enumerate(active) if row not in self.done]
        if len(kept) < len(active):
            self.active = [active[position] for position in kept]
            self._state, self._keys_R = self._state.rows(kept), self._keys_R[kept]
            self._rules = self._rules.rows(kept)


def _states_after_prompts(
    stepper: Stepper, vocab: Vocab, requests: Sequence[Request]
) -> QuantizedState:
    """Prompts that several requests share are read once."""
    states: dict[tuple[str, int], QuantizedState] = {}
    for one in requests:
        if (key := (one.prompt, id(one.state))) not in states:
            before = QuantizedState.of(one.state) if one.state else stepper.zero_state(1)
            states[key] = stepper.read(vocab.encode(one.prompt).astype(np.int64)[None], before)
    parts = zip(*(states[one.prompt, id(one.state)] for one in requests), strict=True)
    return QuantizedState(*map(np.concatenate, parts))


def cut_at_stop(text: str, start: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """The start and end in `text` of the first stop string that ends after `start`; None if there is none."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), stop) for stop in stops]
    return min(
        ((at, at + len(stop)) for at, stop in found if at >= 0),
        default=None,
        key=lambda span: span[::-1],
    )


def num_pending(text: str, stops: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may become a stop string."""
    lengths = (
        length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])
    )
    return max(lengths, default=0)


# Ids of a row that are written before stop strings are looked for, or an interruption is noticed.
CHUNK: Final = 256
STREAM_CHUNK: Final = 8


class Sampler:
    """Writes texts with the weights that `model` has now."""

    def __init__(self, model: CharLSTM, vocab: Vocab) -> None:
        self._vocab, self._stepper = vocab, Stepper(quantize(model))

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """A text for each request.

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
        """The same text as from `generate`, a character at a time as they are drawn, and the state after it.

        What may become a stop string is held back until it is clear.
        """
        stop = (
            () if request.sampling.keep_stop else request.sampling.stop
        )  # what is kept need not be held back
        batch, num_given = Rows(self._stepper, self._vocab, [request]), 0
        while batch.active:
            batch.advance(STREAM_CHUNK)
            text = batch.done[0].text if batch.done else batch.texts[0]
            num_ready = len(text) - (0 if batch.done else num_pending(text, stop))
            yield from text[num_given:num_ready]
            num_given = num_ready
        return batch.done[0].state
