"""Texts in progress: the rows of a batch, which begin together and end one by one.

Shapes: L layers, R rows, T characters, H hidden units.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.generation.drawing import Rules
from charlstm.generation.random_numbers import key_of
from charlstm.generation.rule import SamplingRule
from charlstm.generation.stepper import QuantizedState, Stepper
from charlstm.generation.stops import cut_at_stop
from charlstm.generation.utf8 import states_after
from charlstm.model.gates import LSTMState
from charlstm.text.vocabulary import Vocab

Reason = Literal["length", "stop"]


class Request(NamedTuple):
    """A text to write: `num_chars` characters that follow `prompt`, or fewer, up to the first of the `stop` strings.

    With `keep_stop` the text has that string at its end. `number` counts the texts of one prompt and seed. `state`
    (L, 1, H) is what was read before the prompt; the prompt may be empty then.
    """

    prompt: str
    num_chars: int
    rule: SamplingRule
    seed: int
    number: int = 0
    stop: tuple[str, ...] = ()
    state: LSTMState | None = None
    keep_stop: bool = False


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
        self._keys_R = np.array([key_of(one.seed, one.prompt, one.number) for one in requests], np.uint64)
        self._rules = Rules.of([one.rule for one in requests], len(vocab))
        self._finish([row for row in self._active if requests[row].num_chars == 0])

    def is_done(self) -> bool:
        """Whether all texts are."""
        return not self._active

    def advance(self, most: int) -> None:
        """Write up to `most` ids in each row that is not done."""
        active = self._active
        # A character has at least one id, so no row gets more characters than it asked for.
        count = min(most, *(self._requests[row].num_chars - len(self.texts[row]) for row in active))
        before, utf8_R = self.state, None
        if self._vocab.unit == "byte":
            utf8_R = states_after([self._decoders[row].waiting for row in active])
        ids_RT, self.state = self._stepper.write(before, self._rules, self._keys_R, self.num_written, count, utf8_R)
        ends = []
        for position, row in enumerate(active):
            request, start = self._requests[row], len(self.texts[row])
            self.texts[row] += self._decoders[row].decode(ids_RT[position].tolist())
            if span := cut_at_stop(self.texts[row], start, request.stop):
                num_read = self._vocab.num_ids(self.texts[row][: span[1]]) - self.num_written
                read = self._stepper.read(ids_RT[position, None, :num_read], _row(before, position))
                end = span[1] if request.keep_stop else span[0]
                self.done[row] = Generated(self.texts[row][:end], read.dequantized(), "stop")
            elif len(self.texts[row]) == request.num_chars:
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
            self._rules = Rules.of([self._requests[row].rule for row in self._active], len(self._vocab))


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
