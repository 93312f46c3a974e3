"""Writing texts, many at once, each as it would be alone.

A text is a function of the model, the state that it begins from, its prompt, its rule, its seed and its number, on
every machine and in every batch.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, NamedTuple

import numpy as np
import torch

from charlstm.generation import kernels
from charlstm.generation.kernels import FRACTIONS, LEVELS, POWERS, TILE, Double, Float, Ids, Int8, PackedModel, Rules
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, QuantizedModel, quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.seeds import key_of, uniforms
from charlstm.text.utf8 import NEXT, utf8_state
from charlstm.text.vocabulary import Decoder, Vocab

# A quantized model at work. Products of integers are exact, so what a row gives does not depend on the other rows.

MAX_ROWS_PER_CALL: Final = 128  # what more of them need does not fit a processor's inner caches
MAX_CHARS_PER_CALL: Final = 2**16  # of a row that is read: compiled code cannot be interrupted


class QuantizedState(NamedTuple):
    """Hidden states in steps of 1/127, and cell states."""

    hidden_RLH: Int8
    cell_RLH: Float

    @classmethod
    def of(cls, state: LSTMState) -> "QuantizedState":
        """The state (L, R, H), rounded. What `dequantized` gives comes back as it was."""
        hidden_RLH, cell_RLH = (one.cpu().float().transpose(0, 1).contiguous().numpy() for one in state)
        return cls(np.floor(hidden_RLH * np.float32(LEVELS) + np.float32(0.5)).astype(np.int8), cell_RLH)

    def dequantized(self) -> LSTMState:
        """The state (L, R, H) as the model has it, in float32."""
        hidden_LRH = torch.from_numpy(self.hidden_RLH).transpose(0, 1) * (1 / LEVELS)
        return LSTMState(hidden_LRH, torch.from_numpy(self.cell_RLH).transpose(0, 1).clone())

    def rows(self, rows: slice | list[int]) -> "QuantizedState":
        """The state of some rows; one may come several times."""
        return QuantizedState(self.hidden_RLH[rows], self.cell_RLH[rows])

    def copy(self) -> "QuantizedState":
        """A state to write over."""
        return QuantizedState(self.hidden_RLH.copy(), self.cell_RLH.copy())


class Stepper:
    """Reads and writes in many rows at once, which threads share."""

    def __init__(self, model: QuantizedModel, num_threads: int | None = None) -> None:
        self._model, self._num_threads = packed(model), num_threads or torch.get_num_threads()
        self._state_shape = len(model.layers), model.hidden_size

    def zero_state(self, num_rows: int) -> QuantizedState:
        """The state before anything was read."""
        shape = (num_rows, *self._state_shape)
        return QuantizedState(np.zeros(shape, np.int8), np.zeros(shape, np.float32))

    def read(self, ids_RT: Ids, state: QuantizedState) -> QuantizedState:
        """The state after reading."""
        rules = Rules.of([Sampling()] * len(ids_RT), len(self._model.bias_V))
        for begin in range(0, ids_RT.shape[1], MAX_CHARS_PER_CALL):
            given_RT = ids_RT[:, begin : begin + MAX_CHARS_PER_CALL]
            _, state = self.write(state, rules, np.zeros((len(ids_RT), 0)), given_RT=given_RT)
        return state

    def write(
        self,
        state: QuantizedState,
        rules: Rules,
        uniforms_RT: Double,
        utf8_R: Ids | None = None,
        given_RT: Ids | None = None,
    ) -> tuple[Ids, QuantizedState]:
        """Read `given_RT`, then draw an id for each random number: all ids (R, T), and the state after reading them.

        With `utf8_R`, the states of UTF-8 after what was read, ids are bytes that stay valid UTF-8.
        """
        num_rows, num_given = len(uniforms_RT), 0 if given_RT is None else given_RT.shape[1]
        ids_RT = np.zeros((num_rows, num_given + uniforms_RT.shape[1]), np.int64)
        ids_RT[:, :num_given] = given_RT if num_given else 0
        utf8_R = np.full(num_rows, -1) if utf8_R is None else utf8_R.copy()
        after = state.copy()

        def advance(rows: slice) -> None:
            some = rules.rows(rows), uniforms_RT[rows], num_given, ids_RT[rows], *after.rows(rows), utf8_R[rows]
            call(kernels.advance, self._model, *some)

        self._share_out(num_rows, advance)
        return ids_RT, after

    def score(self, ids_RT: Ids, state: QuantizedState) -> tuple[Float, QuantizedState]:
        """Logits (R, T, V) of the character after each that is read, and the state after the last."""
        logits_RTV, after = np.empty((*ids_RT.shape, len(self._model.bias_V)), np.float32), state.copy()

        def score(rows: slice) -> None:
            call(kernels.score, self._model, ids_RT[rows], *after.rows(rows), logits_RTV[rows])

        self._share_out(len(ids_RT), score)
        return logits_RTV, after

    def _share_out(self, num_rows: int, work: Callable[[slice], None]) -> None:
        num_at_once = max(1, min(MAX_ROWS_PER_CALL, -(-num_rows // self._num_threads)))
        parts = [slice(begin, begin + num_at_once) for begin in range(0, num_rows, num_at_once)]
        if len(parts) == 1:
            work(parts[0])
            return
        with ThreadPoolExecutor(self._num_threads) as pool:
            list(pool.map(work, parts))


def call(function: Callable[..., None], *arguments: object) -> None:
    """Call compiled code. Where it was compiled and could not be kept, as on a full disk, it is there all the same."""
    try:
        function(*arguments)
    except OSError:
        function(*arguments)


def packed(model: QuantizedModel) -> PackedModel:
    """The arrays that compiled code reads."""
    sizes_M2 = np.array([matrix.values_NK.shape for matrix in model.matrices])
    num_rows, num_columns = -(-sizes_M2.max(0) // TILE) * TILE
    by_row_MPQ = np.zeros((len(sizes_M2), num_rows, num_columns), np.int16)
    scales_MP = np.zeros((len(sizes_M2), num_rows), np.float32)
    for number, (values_NK, scale_N) in enumerate(model.matrices):
        by_row_MPQ[number, : values_NK.shape[0], : values_NK.shape[1]] = values_NK
        scales_MP[number, : len(scale_N)] = scale_N
    by_column_MQP = np.ascontiguousarray(by_row_MPQ.transpose(0, 2, 1), np.float32)
    first_VG, *upper = (layer.base_VG for layer in model.layers)
    upper_LG = np.concatenate([np.zeros((0, first_VG.shape[1]), np.float32), *upper])
    has_block, tanh_levels = model.up is not None, TANH * np.float32(LEVELS)  # exact: 22 bits
    weights = by_row_MPQ, by_column_MQP, scales_MP, sizes_M2, first_VG, upper_LG, model.bias_V, has_block
    return PackedModel(*weights, GATE_TABLE, tanh_levels, GELU, FRACTIONS, POWERS, NEXT)


# Texts in progress: the rows of a batch, which begin together and end one by one.

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
        count = min(most, *(self._requests[row].sampling.num_chars - len(self.texts[row]) for row in active))
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
                read = self._stepper.read(ids_RT[position, None, :num_read], before.rows([position]))
                end = span[1] if sampling.keep_stop else span[0]
                self.done[row] = Generated(text[:end], read.dequantized(), "stop")
            elif len(text) == sampling.num_chars:
                self.done[row] = Generated(text, self._state.rows([position]).dequantized(), "length")
        self.num_written += count
        kept = [position for position, row in enumerate(active) if row not in self.done]
        if len(kept) < len(active):
            self.active = [active[position] for position in kept]
            self._state, self._keys_R = self._state.rows(kept), self._keys_R[kept]
            self._rules = self._rules.rows(kept)


def _states_after_prompts(stepper: Stepper, vocab: Vocab, requests: Sequence[Request]) -> QuantizedState:
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
    return min(((at, at + len(stop)) for at, stop in found if at >= 0), default=None, key=lambda span: span[::-1])


def num_pending(text: str, stops: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may become a stop string."""
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
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
        stop = () if request.sampling.keep_stop else request.sampling.stop  # what is kept need not be held back
        batch, num_given = Rows(self._stepper, self._vocab, [request]), 0
        while batch.active:
            batch.advance(STREAM_CHUNK)
            text = batch.done[0].text if batch.done else batch.texts[0]
            num_ready = len(text) - (0 if batch.done else num_pending(text, stop))
            yield from text[num_given:num_ready]
            num_given = num_ready
        return batch.done[0].state
