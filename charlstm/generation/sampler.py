"""Writing texts, many at once, each as it would be alone.

A text is a function of the model, the state that it begins from, its prompt, its rule, its seed and its number, on
every machine and in every batch.
"""

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

import numpy as np
import torch

from charlstm.generation.drawing import Rules, cut_at_stop, key_of, num_pending, states_after, uniforms
from charlstm.generation.quantized import QuantizedModel, QuantizedState, Stepper, quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Decoder, Vocab

log = logging.getLogger(__name__)


# Texts in progress: the rows of a batch, which begin together and end one by one.
#
# Shapes: L layers, R rows, T characters, H hidden units.

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
        read = QuantizedState.of(self.state).hidden.cpu().numpy().tobytes() if self.state else b""
        return key_of(self.sampling.seed, self.prompt, self.number, read)


class Generated(NamedTuple):
    """A text without its prompt, and the state (L, 1, H) after all that was read and drawn, a stop string included.

    `reason` says why it ended: it has the `length` that was asked for, or came to a `stop` string.
    """

    text: str
    state: LSTMState
    reason: Reason


class Batch:
    """Rows that are written together; their texts so far are in `texts`, those that are done in `done`, by row.

    The texts that are not done have `num_written` ids, of characters or of bytes. A text of bytes has its whole
    characters in `texts`, and the first bytes of the next one in its decoder.
    """

    def __init__(self, stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> None:
        self._stepper, self._vocab, self._requests = stepper, vocab, requests
        self.texts, self._decoders = [""] * len(requests), [Decoder(vocab) for _ in requests]
        self.done: dict[int, Generated] = {}
        self.num_written = 0
        self._active = list(range(len(requests)))
        self._state = _states_after_prompts(stepper, vocab, requests)
        self._keys_R = np.array([one.key() for one in requests], np.uint64)
        self._rules = Rules.of([one.sampling for one in requests], len(vocab))

    def is_done(self) -> bool:
        """Whether all texts are done."""
        return not self._active

    def advance(self, most: int) -> None:
        """Write up to `most` ids in each row that is not done."""
        active, before, utf8_R = self._active, self._state, None
        # A character has at least one id, so no row gets more characters than it asked for.
        count = min(most, *(self._requests[row].sampling.num_chars - len(self.texts[row]) for row in active))
        if self._vocab.unit == "byte":
            utf8_R = states_after([self._decoders[row].waiting for row in active])
        uniforms_RT = uniforms(self._keys_R, self.num_written, count)
        ids_RT, self._state = self._stepper.write(before, self._rules, uniforms_RT, utf8_R)
        for position, row in enumerate(active):
            sampling, start = self._requests[row].sampling, len(self.texts[row])
            self.texts[row] += self._decoders[row].decode(ids_RT[position].tolist())
            text = self.texts[row]
            if span := cut_at_stop(text, start, sampling.stop):
                num_read = self._vocab.num_ids(text[: span[1]]) - self.num_written
                read = self._stepper.read(ids_RT[position, None, :num_read], before.rows([position]))
                end = span[1] if sampling.keep_stop else span[0]
                self.done[row] = Generated(text[:end], read.dequantized(), "stop")
            elif len(text) == sampling.num_chars:
                self.done[row] = Generated(text, self._state.rows([position]).dequantized(), "length")
        self.num_written += count
        kept = [position for position, row in enumerate(active) if row not in self.done]
        if len(kept) < len(active):
            self._active = [active[position] for position in kept]
            self._state, self._keys_R = self._state.rows(kept), self._keys_R[kept]
            self._rules = self._rules.rows(kept)


def _states_after_prompts(stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> QuantizedState:
    """(L, R, H). Prompts that several requests share are read once, and all of them together."""
    sources = {(one.prompt, id(one.state)): one for one in requests}
    unique = sorted(sources.values(), key=lambda one: vocab.num_ids(one.prompt), reverse=True)
    ids = [torch.from_numpy(vocab.encode(one.prompt).astype(np.int64)) for one in unique]
    state = _stacked([QuantizedState.of(one.state) if one.state else stepper.zero_state(1) for one in unique])
    begin = 0
    for end in sorted({len(one) for one in ids}):
        active = [one[begin:end] for one in ids if len(one) >= end]  # the first rows: the longest prompts are first
        after = stepper.read(torch.stack(active), state.rows(slice(len(active))))
        state, begin = _stacked([after, state.rows(slice(len(active), None))]), end
    positions = {(one.prompt, id(one.state)): position for position, one in enumerate(unique)}
    return state.rows([positions[one.prompt, id(one.state)] for one in requests])


def _stacked(states: Sequence[QuantizedState]) -> QuantizedState:
    return QuantizedState(*(torch.cat(parts, 1) for parts in zip(*states, strict=True)))


# Which engine writes: torch, or machine code, where it is there or worth compiling. Texts are equal.
# Measured with the default model on 2 cores: `python -m benchmarks.generation`.

SECONDS_SAVED_PER_STEP: Final = 90e-6  # a character in each row: what torch needs to call its functions
SECONDS_SAVED_PER_CHAR: Final = 2e-6
# Compiling takes three or more. But it is done once for a machine, and later processes save, too.
SECONDS_WORTH_COMPILING: Final = 1.0


def compiled_stepper(model: QuantizedModel, *, may_compile: bool = True) -> Stepper | None:
    """The engine in machine code; None where it is not there yet and may not be compiled, or does not work.

    Whatever is wrong with the optional package numba, torch does without it.
    """
    try:
        from charlstm.generation.compiled.object_code import Function, keep, kept
        from charlstm.generation.compiled.stepper import CompiledStepper, compile_for

        if (function := kept()) or not may_compile:
            return CompiledStepper(model, torch.get_num_threads(), function) if function else None
        function = Function(compile_for(model))
        stepper = CompiledStepper(model, torch.get_num_threads(), function)
        if _first_ids(stepper, model) == _first_ids(Stepper(model), model):
            keep(function)
            return stepper
        log.debug("torch writes: what numba compiled gives other texts")
    except Exception as error:
        log.debug("torch writes: %s: %s", type(error).__name__, error)
    return None


def _first_ids(stepper: Stepper, model: QuantizedModel) -> list[list[int]]:
    """The first ids of two texts that `stepper` writes."""
    rules = Rules.of([Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=9, top_p=0.9)], len(model.bias_V))
    ids_RT, _ = stepper.write(stepper.zero_state(2), rules, uniforms(np.arange(2, dtype=np.uint64), 0, 16))
    ids: list[list[int]] = ids_RT.tolist()
    return ids


# The sampler.

MAX_ROWS: Final = 256  # at once; what more of them need does not fit a processor's cache
MIN_ROWS_PER_THREAD: Final = 16  # with fewer, threads wait for each other
# Characters that are written before stop strings are looked for, or an interruption is noticed: more as a text grows,
# so that looking costs little, and little is written in vain.
CHUNK: Final = 32  # at first ...
CHUNK_SHARE: Final = 1 / 8  # ... and of what is written
MAX_CHUNK: Final = 2**16  # in all rows
STREAM_CHUNK: Final = 4  # the same of a stream
STREAM_SHARE: Final = 1 / 16
MAX_STREAM_CHUNK: Final = 256


class Sampler:
    """Writes texts with the weights that `model` has now."""

    def __init__(self, model: CharLSTM, vocab: Vocab) -> None:
        self._vocab, self._model = vocab, quantize(model)
        self._torch, self._has_tried = Stepper(self._model), False
        self._compiled: Stepper | None = None

    def engine(self, num_rows: int, num_chars: int) -> Stepper:
        """The one that reads and writes `num_chars` characters in all soonest, `num_rows` texts at once."""
        saved = num_chars * (SECONDS_SAVED_PER_STEP / max(num_rows, 1) + SECONDS_SAVED_PER_CHAR)
        if not self._compiled and not self._has_tried:
            self._has_tried = saved > SECONDS_WORTH_COMPILING
            self._compiled = compiled_stepper(self._model, may_compile=self._has_tried)
        return self._compiled if self._compiled and num_rows <= self._compiled.most_rows else self._torch

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """A text for each request.

        Raises:
            VocabularyError: a prompt has characters that the vocabulary lacks.
        """
        num_chars = sum(len(one.prompt) + one.sampling.num_chars for one in requests)
        stepper = self.engine(min(MAX_ROWS, len(requests)), num_chars)
        generated: list[Generated] = []
        for start in range(0, len(requests), MAX_ROWS):
            part = requests[start : start + MAX_ROWS]
            with few_threads(len(part)):
                batch = Batch(stepper, self._vocab, part)
                while not batch.is_done():
                    batch.advance(max(CHUNK, int(min(batch.num_written * CHUNK_SHARE, MAX_CHUNK / len(part)))))
            generated += (batch.done[row] for row in range(len(part)))
        return generated

    def stream(self, request: Request) -> Generator[str, None, LSTMState]:
        """The same text as from `generate`, a character at a time as they are drawn, and the state after it.

        What may become a stop string is held back until it is clear.
        """
        stepper = self.engine(1, len(request.prompt) + request.sampling.num_chars)
        stop = () if request.sampling.keep_stop else request.sampling.stop  # what is kept need not be held back
        with torch.inference_mode(), few_threads(1):
            batch = Batch(stepper, self._vocab, [request])
        num_given = 0
        while not batch.is_done():
            with torch.inference_mode(), few_threads(1):
                batch.advance(max(STREAM_CHUNK, int(min(num_given * STREAM_SHARE, MAX_STREAM_CHUNK))))
            text = batch.done[0].text if batch.is_done() else batch.texts[0]
            num_ready = len(text) - (0 if batch.is_done() else num_pending(text, stop))
            yield from text[num_given:num_ready]
            num_given = num_ready
        return batch.done[0].state


class _Writers:
    """How many write at once, and the number of torch's threads before the first of them."""

    lock = threading.Lock()
    number = num_threads = 0


@contextmanager
def few_threads(num_rows: int) -> Iterator[None]:
    """No more of torch's threads than help with `num_rows` rows. Texts do not depend on it.

    torch has a number for each thread of Python, and one for those that come. Where several write at once, both are
    afterwards as they were before the first.
    """
    with _Writers.lock:
        if not _Writers.number:
            _Writers.num_threads = torch.get_num_threads()
        _Writers.number += 1
        before = _Writers.num_threads
        torch.set_num_threads(max(1, min(before, num_rows // MIN_ROWS_PER_THREAD)))
    try:
        yield
    finally:
        with _Writers.lock:
            _Writers.number -= 1
            torch.set_num_threads(before)
