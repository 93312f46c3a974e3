"""Writing texts, many at once, each as it would be alone.

A text is a function of the model, its prompt, its rule, its seed and its number, on every machine and in every batch.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.generation.drawing import Rules, cut_at_stop, key_of, num_pending, states_after
from charlstm.generation.quantized import QuantizedModel, QuantizedState, Stepper, quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.text.prompts import check_prompts
from charlstm.text.vocabulary import Vocab

if TYPE_CHECKING:
    from charlstm.generation.compiled.stepper import CompiledStepper

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
        self.texts, self._decoders = [""] * len(requests), [vocab.decoder() for _ in requests]
        self.done: dict[int, Generated] = {}
        self.num_written = 0
        self._active = list(range(len(requests)))
        self.state = _states_after_prompts(stepper, vocab, requests)
        self._keys_R = np.array([key_of(one.sampling.seed, one.prompt, one.number) for one in requests], np.uint64)
        self._rules = Rules.of([one.sampling for one in requests], len(vocab))
        self._finish([row for row in self._active if requests[row].sampling.num_chars == 0])

    def is_done(self) -> bool:
        """Whether all texts are."""
        return not self._active

    def advance(self, most: int) -> None:
        """Write up to `most` ids in each row that is not done."""
        active = self._active
        # A character has at least one id, so no row gets more characters than it asked for.
        count = min(most, *(self._requests[row].sampling.num_chars - len(self.texts[row]) for row in active))
        before, utf8_R = self.state, None
        if self._vocab.unit == "byte":
            utf8_R = states_after([self._decoders[row].waiting for row in active])
        ids_RT, self.state = self._stepper.write(before, self._rules, self._keys_R, self.num_written, count, utf8_R)
        ends = []
        for position, row in enumerate(active):
            request, start = self._requests[row], len(self.texts[row])
            self.texts[row] += self._decoders[row].decode(ids_RT[position].tolist())
            if span := cut_at_stop(self.texts[row], start, request.sampling.stop):
                num_read = self._vocab.num_ids(self.texts[row][: span[1]]) - self.num_written
                read = self._stepper.read(ids_RT[position, None, :num_read], _row(before, position))
                end = span[1] if request.sampling.keep_stop else span[0]
                self.done[row] = Generated(self.texts[row][:end], read.dequantized(), "stop")
            elif len(self.texts[row]) == request.sampling.num_chars:
                ends.append(row)
        self.num_written += count
        self._finish(ends)

    def _finish(self, rows: Sequence[int]) -> None:
        """Note the texts of `rows` as they are, and go on with those that are not done."""
        for row in rows:
            state = _row(self.state, self._active.index(row)).dequantized()
            self.done[row] = Generated(self.texts[row], state, "length")
        kept = [position for position, row in enumerate(self._active) if row not in self.done]
        if len(kept) < len(self._active):
            self._active = [self._active[position] for position in kept]
            self.state, self._keys_R = self.state.rows(torch.tensor(kept).long()), self._keys_R[kept]
            self._rules = Rules.of([self._requests[row].sampling for row in self._active], len(self._vocab))


def _row(state: QuantizedState, row: int) -> QuantizedState:
    return state.rows(torch.tensor([row]))


def _states_after_prompts(stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> QuantizedState:
    """(L, R, H). Prompts that several requests share are read once, and all of them together."""
    sources = {(one.prompt, id(one.state)): one for one in requests}
    unique = sorted(sources.values(), key=lambda one: vocab.num_ids(one.prompt), reverse=True)
    ids = [_ids(vocab, one.prompt) for one in unique]
    state = _stacked([_state_before(stepper, one) for one in unique])
    begin = 0
    for end in sorted({len(one) for one in ids}):
        active = [one for one in ids if len(one) >= end]  # the first rows
        ids_RT = torch.stack([one[begin:end] for one in active])
        after, rest = stepper.read(ids_RT, state.first(len(active))), state.rows(torch.arange(len(active), len(unique)))
        state, begin = _stacked([after, rest]), end
    places = {(one.prompt, id(one.state)): place for place, one in enumerate(unique)}
    return state.rows(torch.tensor([places[one.prompt, id(one.state)] for one in requests]))


def _state_before(stepper: Stepper, request: Request) -> QuantizedState:
    return stepper.zero_state(1) if request.state is None else QuantizedState.of(request.state)


def _stacked(states: Sequence[QuantizedState]) -> QuantizedState:
    return QuantizedState(*(torch.cat(parts, 1) for parts in zip(*states, strict=True)))


def _ids(vocab: Vocab, text: str) -> Tensor:
    return torch.from_numpy(vocab.encode(text).astype(np.int64))


# Which engine writes: torch, or machine code, where it is there or worth compiling. Texts are equal.
# Measured with the default model on 2 cores: `python -m benchmarks.generation`.

SECONDS_SAVED_PER_STEP: Final = 90e-6  # a character in each row: what torch needs to call its functions
SECONDS_SAVED_PER_CHAR: Final = 2e-6
# Compiling takes three or more. But it is done once for a machine, and later processes save, too.
SECONDS_WORTH_COMPILING: Final = 1.0


class Engines:
    """Those for one model."""

    def __init__(self, model: QuantizedModel) -> None:
        self._model, self._stepper = model, Stepper(model)
        self._compiled: CompiledStepper | None = None
        self._has_tried = False

    def best(self, num_rows: int, num_chars: int) -> Stepper:
        """To read and write `num_chars` characters in all, `num_rows` texts at once."""
        saved = num_chars * (SECONDS_SAVED_PER_STEP / max(num_rows, 1) + SECONDS_SAVED_PER_CHAR)
        if not self._has_tried and (saved > SECONDS_WORTH_COMPILING or is_compiled()):
            self._has_tried, self._compiled = True, compiled_stepper(self._model)
        return self._compiled if self._compiled and num_rows <= self._compiled.most_rows else self._stepper


def is_compiled() -> bool:
    """Whether the engine in machine code is there, so that using it takes no more than a moment."""
    with _without_it():
        from charlstm.generation.compiled.object_code import kept

        return kept() is not None
    return False


def compiled_stepper(model: QuantizedModel) -> "CompiledStepper | None":
    """The engine in machine code, compiled if need be; None where numba is missing or does not work as it should."""
    with _without_it():
        from charlstm.generation.compiled.object_code import Function, keep, kept
        from charlstm.generation.compiled.stepper import CompiledStepper, compile_for

        if function := kept():
            return CompiledStepper(model, torch.get_num_threads(), function)
        stepper = CompiledStepper(model, torch.get_num_threads(), function := Function(code := compile_for(model)))
        if _first_ids(stepper, model) == _first_ids(Stepper(model), model):
            keep(code, function)
            return stepper
        log.debug("torch writes: what numba compiled gives other texts")
    return None


@contextmanager
def _without_it() -> Iterator[None]:
    """Whatever is wrong with an optional package, torch does without it."""
    try:
        yield
    except Exception as error:
        log.debug("torch writes: %s: %s", type(error).__name__, error)


def _first_ids(stepper: Stepper, model: QuantizedModel) -> list[list[int]]:
    """Of two texts."""
    rules = [Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=9, top_p=0.9)]
    keys_R = np.arange(len(rules), dtype=np.uint64)
    ids_RT, _ = stepper.write(stepper.zero_state(len(rules)), Rules.of(rules, len(model.bias_V)), keys_R, 0, 16)
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
        self._vocab, self._engines = vocab, Engines(quantize(model))

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """A text for each request.

        Raises:
            VocabularyError: a prompt is empty without a state, or has characters that the vocabulary lacks.
        """
        check_requests(self._vocab, requests)
        num_chars = sum(len(one.prompt) + one.sampling.num_chars for one in requests)
        stepper = self._engines.best(min(MAX_ROWS, len(requests)), num_chars)
        by_length = sorted(range(len(requests)), key=lambda number: requests[number].sampling.num_chars)
        found: dict[int, Generated] = {}
        for start in range(0, len(requests), MAX_ROWS):  # texts of like length together
            numbers = by_length[start : start + MAX_ROWS]
            with few_threads(len(numbers)):
                batch = Batch(stepper, self._vocab, [requests[number] for number in numbers])
                while not batch.is_done():
                    growing = int(min(batch.num_written * CHUNK_SHARE, MAX_CHUNK / len(numbers)))
                    batch.advance(max(CHUNK, growing))
            found |= {number: batch.done[row] for row, number in enumerate(numbers)}
        return [found[number] for number in range(len(requests))]

    def stream(self, request: Request) -> "Stream":
        """The same text as from `generate`, a character at a time.

        Raises:
            VocabularyError: as there, at once.
        """
        check_requests(self._vocab, [request])
        return Stream(self._engines.best(1, len(request.prompt) + request.sampling.num_chars), self._vocab, request)


class Stream(Iterator[str]):
    """The characters of one text, as they are drawn. What may become a stop string is held back until it is clear."""

    def __init__(self, stepper: Stepper, vocab: Vocab, request: Request) -> None:
        with torch.inference_mode(), few_threads(1):
            self._batch = Batch(stepper, vocab, [request])
        self._stop = () if request.sampling.keep_stop else request.sampling.stop  # what is kept need not be held back
        self._num_given = 0

    def __next__(self) -> str:
        while self._num_given >= self._num_ready():
            if self._batch.is_done():
                raise StopIteration
            with torch.inference_mode(), few_threads(1):
                growing = int(min(self._num_given * STREAM_SHARE, MAX_STREAM_CHUNK))
                self._batch.advance(max(STREAM_CHUNK, growing))
        self._num_given += 1
        return self._text()[self._num_given - 1]

    @property
    def state(self) -> LSTMState:
        """The state (L, 1, H) after all that was drawn: a few characters more than were given, until the end."""
        done = self._batch.done.get(0)
        return done.state if done else self._batch.state.dequantized()

    def _text(self) -> str:
        return self._batch.done[0].text if self._batch.is_done() else self._batch.texts[0]

    def _num_ready(self) -> int:
        text = self._text()
        return len(text) - (0 if self._batch.is_done() else num_pending(text, self._stop))


@contextmanager
def few_threads(num_rows: int) -> Iterator[None]:
    """No more of torch's threads than help with `num_rows` rows. Texts do not depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, num_rows // MIN_ROWS_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_requests(vocab: Vocab, requests: Sequence[Request]) -> None:
    """Nothing, if all prompts can be read.

    Raises:
        VocabularyError: a prompt is empty without a state, or has characters that the vocabulary lacks.
    """
    check_prompts(vocab, [one.prompt for one in requests if one.prompt or one.state is None])
