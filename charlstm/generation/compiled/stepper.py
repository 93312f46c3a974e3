"""A quantized model at work in machine code: what it reads and writes, and the calls. Nothing here needs numba.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, N rows and K columns of a
matrix; P the largest number of rows of a matrix and Q of columns, both rounded up to whole blocks.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.compiled.object_code import TARGET, ObjectCode
from charlstm.generation.drawing import FRACTIONS, NEXT, POWERS, Double, Float, Ids, Rules
from charlstm.generation.quantized import (
    GATE_TABLE,
    GELU,
    LEVELS,
    TANH,
    Matrix,
    QuantizedModel,
    QuantizedState,
    Stepper,
)
from charlstm.sampling import Sampling

# What machine code reads, and memory that it writes over.

Int8 = NDArray[np.int8]
LANES: Final = 8  # sums in a register
NUM_REGISTERS: Final = 4  # of sums, for each row: enough that no sum waits for the one before
BLOCK: Final = LANES * NUM_REGISTERS  # rows of a matrix at once
GROUP: Final = 4  # columns at once
SIGN: Final = -128 if TARGET.has_vnni else 0  # the bit that makes a + 128 of a


class Matrices(NamedTuple):
    """All matrices of a model, end to end, each padded with zeros to whole blocks.

    Matrix m has `values` and rows (of `scales` and `surpluses`) from fence m to fence m + 1.
    """

    values: Int8
    scales: Float
    surpluses: NDArray[np.int32]
    value_fences: Ids
    row_fences: Ids

    @classmethod
    def of(cls, matrices: Sequence[Matrix]) -> "Matrices":
        """Pack matrices: the same integers, in the order in which machine code reads them."""
        padded = []
        for values_NK, _ in matrices:
            num_rows, num_columns = values_NK.shape
            padded.append(np.pad(values_NK, ((0, -num_rows % BLOCK), (0, -num_columns % GROUP))))
        return cls(
            np.concatenate([(in_blocks(values_PQ) if TARGET.has_vnni else values_PQ).ravel() for values_PQ in padded]),
            np.concatenate([np.resize(scale_N, len(own)) for (_, scale_N), own in zip(matrices, padded, strict=True)]),
            np.concatenate([values_PQ.sum(1, dtype=np.int32) * -SIGN for values_PQ in padded]),
            np.array([0, *(values_PQ.size for values_PQ in padded)]).cumsum(),
            np.array([0, *map(len, padded)]).cumsum(),
        )


def in_blocks(values_PQ: Int8) -> Int8:
    """Reorder for the instruction: block after block of rows, in each its groups of columns, in each row after row."""
    num_rows, num_columns = values_PQ.shape
    return values_PQ.reshape(num_rows // BLOCK, BLOCK, num_columns // GROUP, GROUP).swapaxes(1, 2)


class Tables(NamedTuple):
    """Tables of functions; as globals, they would become part of the code, which takes longer to compile."""

    gates: Float
    tanh_levels: Float
    gelu: Float
    fractions: Double
    powers: Double
    next_SV: Ids


class PackedModel(NamedTuple):
    """The matrices in the order of `QuantizedModel.matrices`; up and down are there where F > 0 is `num_inner`.

    `first_VG` is added in the first layer, a row for each character, `upper_LG` in each layer above.
    """

    tables: Tables
    matrices: Matrices
    first_VG: Float
    upper_LG: Float
    bias_V: Float
    num_inner: int

    @classmethod
    def of(cls, model: QuantizedModel) -> "PackedModel":
        """Pack a quantized model: the same numbers."""
        first_VG, *upper = (layer.base_VG for layer in model.layers)
        return cls(
            Tables(GATE_TABLE, TANH * np.float32(LEVELS), GELU, FRACTIONS, POWERS, NEXT),
            Matrices.of(model.matrices),
            first_VG,
            np.concatenate([np.zeros((0, first_VG.shape[1]), np.float32), *upper]),
            model.bias_V,
            len(model.up.scale_N) if model.up else 0,
        )


class Work(NamedTuple):
    """Memory that is written over at each character: for products of all rows, and for one row after the other."""

    inputs_RQ: Int8
    ones_R: Float
    factors_R: Float
    sums_RP: NDArray[np.int32]
    products_RP: Float
    values_P: Float
    bits_P: NDArray[np.int32]
    steps_P: NDArray[np.uint32]
    probable_V: Double
    sorted_V: Double
    allowed_V: Float
    allowed_ids_V: Ids

    @classmethod
    def of(cls, model: PackedModel, num_rows: int) -> "Work":
        """Memory for `num_rows` rows of the model."""
        sizes, vocab_size = np.diff(model.matrices.row_fences), len(model.bias_V)
        widths, values_P = np.diff(model.matrices.value_fences) // sizes, np.zeros(sizes.max(), np.float32)
        return cls(
            np.zeros((num_rows, widths.max()), np.int8),
            np.ones(num_rows, np.float32),
            np.ones(num_rows, np.float32),
            np.zeros((num_rows, sizes.max()), np.int32),
            np.zeros((num_rows, sizes.max()), np.float32),
            values_P,
            values_P.view(np.int32),
            np.zeros(sizes.max(), np.uint32),
            np.zeros(vocab_size),
            np.zeros(vocab_size),
            np.zeros(vocab_size, np.float32),
            np.zeros(vocab_size, np.int64),
        )


# The calls.

MAX_ROWS_PER_CALL: Final = 8  # what more of them need does not fit a processor's inner caches
MAX_CHARS_PER_CALL: Final = 2**16  # of a row that is read: nobody can interrupt machine code


class CompiledStepper(Stepper):
    """Reads and writes all characters of some rows in one call of `function`; threads share the rows."""

    most_rows = sys.maxsize if TARGET.has_vnni else 24  # torch's products are faster then

    def __init__(self, model: QuantizedModel, num_threads: int, function: Callable[..., None]) -> None:
        super().__init__(model)
        self._packed, self._num_threads, self._function = PackedModel.of(model), num_threads, function

    def read(self, ids_RT: Tensor, state: QuantizedState) -> QuantizedState:
        """The state after reading `ids_RT` (int64)."""
        given_RT, vocab_size = ids_RT.numpy(), len(self._packed.bias_V)
        if ((given_RT < 0) | (given_RT >= vocab_size)).any():
            raise IndexError(f"ids must be below {vocab_size}")  # machine code does not look
        rules, nothing = Rules.of([Sampling()] * len(given_RT), vocab_size), np.zeros((len(given_RT), 0))
        for begin in range(0, given_RT.shape[1], MAX_CHARS_PER_CALL):
            state = self._advance(state, given_RT[:, begin : begin + MAX_CHARS_PER_CALL], rules, nothing, None)[1]
        return state

    def write(
        self, state: QuantizedState, rules: Rules, uniforms_RT: Double, utf8_R: Ids | None = None
    ) -> tuple[Tensor, QuantizedState]:
        """Write characters, as `Stepper.write` does."""
        return self._advance(state, np.zeros((len(uniforms_RT), 0), np.int64), rules, uniforms_RT, utf8_R)

    def _advance(
        self, state: QuantizedState, given_RT: Ids, rules: Rules, uniforms_RT: Double, utf8_R: Ids | None
    ) -> tuple[Tensor, QuantizedState]:
        """Read what is given, then write an id for each of `uniforms_RT`."""
        num_rows, num_given = given_RT.shape
        utf8_R = np.full(num_rows, -1) if utf8_R is None else utf8_R.copy()
        hidden_RLH, cell_RLH = (part.transpose(0, 1).numpy().copy("C") for part in state)
        ids_RT = np.concatenate([given_RT, np.zeros(uniforms_RT.shape, np.int64)], 1)
        num_rows_per_call = min(MAX_ROWS_PER_CALL, -(-num_rows // self._num_threads))

        def advance_rows(begin: int) -> None:
            rows = slice(begin, begin + num_rows_per_call)
            work = Work.of(self._packed, len(ids_RT[rows]))
            changing = ids_RT[rows], hidden_RLH[rows], cell_RLH[rows], utf8_R[rows]
            self._function(self._packed, rules.rows(rows), uniforms_RT[rows], num_given, *changing, work)

        begins = range(0, num_rows, num_rows_per_call)
        if len(begins) == 1:
            advance_rows(0)
        else:
            with ThreadPoolExecutor(self._num_threads) as pool:
                list(pool.map(advance_rows, begins))
        hidden_LRH, cell_LRH = (torch.from_numpy(part).transpose(0, 1).contiguous() for part in (hidden_RLH, cell_RLH))
        return torch.from_numpy(ids_RT), QuantizedState(hidden_LRH, cell_LRH)


def compile_for(model: QuantizedModel) -> ObjectCode:
    """Machine code for all models, this one being the example. It takes seconds.

    Raises:
        ImportError: numba is missing.
    """
    from charlstm.generation.compiled.kernels import advance  # numba takes half a second
    from charlstm.generation.compiled.machine_code import compiled

    calls: list[tuple[Any, ...]] = []  # one, with arguments of the types that all calls have
    stepper = CompiledStepper(model, 1, lambda *arguments: calls.append(arguments))
    stepper.read(torch.zeros((1, 1), dtype=torch.int64), stepper.zero_state(1))
    return compiled(advance, *calls[0])
