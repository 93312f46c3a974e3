"""Generation of texts in batches. Each text is the same as if it were generated alone.

A text depends only on the model, the initial state, the prompt, the sampling options (including the
seed) and the text's number. It is the same on every machine and in every batch.

Shapes: L layers, R rows, T characters, H hidden units.
"""

import hashlib
from collections.abc import Generator, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.kernels import Rules
from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import QuantizedState, Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.text.utf8 import utf8_state
from charlstm.text.vocabulary import Decoder, Vocab

Reason = Literal["length", "stop"]

# Number of ids to generate per row before looking for stop strings and for an interruption.
CHUNK: Final = 256
STREAM_CHUNK: Final = 8


class Request(NamedTuple):
    """Request to generate the text that follows `prompt`, with the options in `sampling`.

    `number` is the text's index among the texts with the same prompt and seed. `state` (L, 1, H) is
    the model's state before the prompt. With a `state`, the prompt may be empty.
    """

    prompt: str
    sampling: Sampling
    number: int = 0
    state: LSTMState | None = None

    def key(self) -> int:
        """Return the 64-bit key that determines the text's random numbers."""
        read = QuantizedState.of(self.state).hidden_RLH.tobytes() if self.state else b""
        return key_of(self.sampling.seed, self.prompt, self.number, read)


class Generated(NamedTuple):
    """Generated text, without its prompt.

    `state` (L, 1, H) is the model's state after the last character, or after the stop string that
    ended the text. `reason` is `length` if the text has the requested length, or `stop` if a stop
    string ended it.
    """

    text: str
    state: LSTMState
    reason: Reason


class Sampler:
    """Text generator with the weights that `model` has when the sampler is created."""

    def __init__(self, model: CharLSTM, vocab: Vocab) -> None:
        self._vocab = vocab
        self._stepper = Stepper(quantize(model))

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """Generate a text for each request. Return the texts in the order of their requests.

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
        """Yield the text that `generate` returns, character by character. Return the final state.

        Characters that may begin a stop string are held back until later characters decide.
        """
        # With `keep_stop`, a stop string stays in the text and need not be held back.
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
    """Batch of `texts`, one per row. A finished row leaves `active` and has its result in `done`.

    Every active row has the same number of ids, which are characters or bytes. In a byte model,
    `texts` has only whole characters, and the decoders keep the bytes of incomplete characters.
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
        """Generate up to `most` ids in each active row."""
        active = self.active
        before = self._state
        # A character consists of at least one id, so no row gets more characters than requested.
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
                # The returned state must not include characters after the stop string.
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
    """Return each row's state after its prompt. A prompt that several rows share is read once."""
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
    """Find the first stop string that ends after `start`. Return its end and start, or None."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), len(stop)) for stop in stops]
    return min(((at + length, at) for at, length in found if at >= 0), default=None)


def num_pending(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a stop string."""
    lengths = (
        length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])
    )
    return max(lengths, default=0)


Bits = NDArray[np.uint64]
STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
FACTORS: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def key_of(seed: int, prompt: str, number: int, read: bytes = b"") -> int:
    """Return the 64-bit key that determines the random numbers of one text.

    Args:
        number: index of the text among the texts with the same prompt and seed.
        read: state of the model before the prompt, as bytes. Without the state, a text that
            continues another text would use the other text's random numbers and soon repeat it.
    """
    values = [0, *map(ord, prompt)]
    if number:
        # The shifted number exceeds all code points, so it never equals a prompt's character.
        values.append(number << 32)
    if read:
        values.append(int.from_bytes(hashlib.sha256(read).digest()[:8]))
    key = np.array([seed % 2**64], np.uint64)
    for value in values:
        key = _mixed(key ^ np.uint64(value))
    return int(key[0])


def uniforms(keys_R: Bits, start: int, count: int) -> NDArray[np.float64]:
    """Return 53-bit random numbers (R, count) in [0, 1) for `count` positions from `start` on."""
    positions = np.arange(start, start + count, dtype=np.uint64)
    bits = _mixed(keys_R[:, None] + positions * STEP) >> np.uint64(11)
    numbers: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return numbers


def _mixed(bits: Bits) -> Bits:
    bits = bits + STEP
    bits = (bits ^ (bits >> np.uint64(30))) * FACTORS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * FACTORS[1]
    return bits ^ (bits >> np.uint64(31))
