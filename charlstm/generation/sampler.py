"""Writing texts, many at once, each as it would be alone.

A text is a function of the model, its prompt, its rule, its seed and its number, on every machine and in every batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch

from charlstm.generation.batch import Batch, Generated, Request
from charlstm.generation.engines import Engines
from charlstm.generation.prompts import check_prompts
from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import Stepper
from charlstm.generation.stops import num_pending
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.text.vocabulary import Vocab

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
        num_chars = sum(len(one.prompt) + one.num_chars for one in requests)
        stepper = self._engines.best(min(MAX_ROWS, len(requests)), num_chars)
        by_length = sorted(range(len(requests)), key=lambda number: requests[number].num_chars)
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
        return Stream(self._engines.best(1, len(request.prompt) + request.num_chars), self._vocab, request)


class Stream(Iterator[str]):
    """The characters of one text, as they are drawn. What may become a stop string is held back until it is clear."""

    def __init__(self, stepper: Stepper, vocab: Vocab, request: Request) -> None:
        with torch.inference_mode(), few_threads(1):
            self._batch = Batch(stepper, vocab, [request])
        self._stop = () if request.keep_stop else request.stop  # what is kept need not be held back
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
