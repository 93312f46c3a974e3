"""How functions become machine code: without fast-math, so each operation is rounded alone, in the order written.

Functions get all memory from outside: numba counts no references. Only to compile, this is imported.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import cgutils, registry
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from charlstm.generation.compiled.object_code import TARGET, ObjectCode, types_of
from charlstm.generation.compiled.stepper import BLOCK, GROUP, LANES, NUM_REGISTERS

Function = TypeVar("Function", bound=Callable[..., Any])
types: Final[Any] = numba.core.types  # numba's own stub lacks most of them
OPTIONS: Final = {"error_model": "numpy", "_nrt": False}
PART: Final = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}  # saves compiling what Python calls


def part(function: Function) -> Function:
    """A function that only machine code calls."""
    return cast(Function, numba.njit(**OPTIONS, **PART)(function))


def inlined(function: Function) -> Function:
    """A part that becomes part of its only caller: saves compiling it twice."""
    return cast(Function, numba.njit(inline="always", **OPTIONS, **PART)(function))


def compiled(function: Callable[..., None], *example: Any) -> ObjectCode:
    """A part as `object_code.Function` calls it, with arguments like those of the example.

    Raises:
        ValueError: numba was told to compile for another processor.
    """
    if registry.cpu_target.target_context.codegen().magic_tuple()[1:] != TARGET:
        raise ValueError("numba was told to compile for another processor")
    unpack = _unpack(_type_of(example))

    def call(numbers: Any) -> None:
        function(*unpack(numbers))

    entry = numba.cfunc(types.void(types.CPointer(types.int64)), nopython=True, **OPTIONS)(call)
    _, _, (code, _) = entry._library.serialize_using_object_code()
    return ObjectCode(entry.native_name, types_of(example), code)


def _type_of(value: Any) -> Any:
    """numba's type of an array without gaps, a whole number, or a tuple."""
    if isinstance(value, tuple):
        parts = [_type_of(part) for part in value]
        return types.NamedTuple(parts, type(value)) if hasattr(value, "_fields") else types.Tuple(parts)
    return types.int64 if isinstance(value, int) else types.Array(from_dtype(value.dtype), value.ndim, "C")


def _unpack(type_: Any) -> Any:
    """A function that makes such a value of the numbers that `object_code.Function` hands over."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = (builder.load(builder.gep(arguments[0], [cgutils.int32_t(index)])) for index in count())
        return _value(context, builder, type_, loaded)

    return intrinsic(lambda typing_context, numbers: (type_(numbers), generate))


def _value(context: Any, builder: Any, type_: Any, numbers: Iterator[Any]) -> Any:
    if isinstance(type_, types.BaseTuple):
        return context.make_tuple(builder, type_, [_value(context, builder, part, numbers) for part in type_])
    if not isinstance(type_, types.Array):
        return next(numbers)
    array, item = context.make_array(type_)(context, builder), context.get_data_type(type_.dtype)
    data = builder.inttoptr(next(numbers), item.as_pointer())
    shape = [next(numbers) for _ in range(type_.ndim)]
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(item))
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


# The processor's instruction for products of bytes, within code that numba compiles.
#
# Processors with VNNI multiply 32 pairs of bytes and add them to 8 sums of 32 bits in one instruction, `vpdpbusd`. No
# loop in Python becomes it, so this builds the loop in LLVM's language, once for each number of rows.


def _multiply_block(typing_context: Any, num_rows: Any, weights: Any, num_groups: Any, inputs: Any, sums: Any) -> Any:
    """A block of a matrix, at the start of `weights`, times the first rows of `inputs`: into the first of `sums`.

    The compiler keeps `totals` in registers: they are memory only by name.
    """
    if not isinstance(num_rows, types.IntegerLiteral):
        return None  # numba asks again, with the number itself
    array_types = weights, inputs, sums

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        zeros, blank = ir.Constant(vector, [0] * LANES), ir.Constant(vector, ir.Undefined)
        _, weights, num_groups, inputs, sums = arguments
        arrays = zip(array_types, (weights, inputs, sums), strict=True)
        weights, inputs, sums = (context.make_array(type_)(context, builder, array) for type_, array in arrays)
        name, kind = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", ir.FunctionType(vector, [vector] * 3)
        add_products = cgutils.get_or_insert_function(builder.module, kind, name)

        def pointer(array: Any, row: int, offset: Any, type_: Any) -> Any:
            stride = builder.extract_value(array.strides, 0)
            place = builder.add(builder.mul(stride, stride.type(row)), offset)
            start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
            return builder.bitcast(builder.gep(start, [place]), type_.as_pointer())

        rows, registers = range(num_rows.literal_value), range(NUM_REGISTERS)
        totals = [[cgutils.alloca_once_value(builder, zeros) for _ in registers] for _ in rows]
        with cgutils.for_range(builder, num_groups) as loop:
            number, size = loop.index, loop.index.type
            starts = [builder.add(builder.mul(number, size(BLOCK * GROUP)), size(LANES * GROUP * n)) for n in registers]
            loaded = [builder.load(pointer(weights, 0, start, vector), align=1) for start in starts]
            for row in rows:
                group = builder.load(pointer(inputs, row, builder.mul(number, size(GROUP)), int32), align=1)
                in_one_lane = builder.insert_element(blank, group, int32(0))
                in_all_lanes = builder.shuffle_vector(in_one_lane, blank, zeros)
                for total, eight_rows in zip(totals[row], loaded, strict=True):
                    builder.store(builder.call(add_products, [builder.load(total), in_all_lanes, eight_rows]), total)
        for row in rows:
            for n, total in zip(registers, totals[row], strict=True):
                builder.store(builder.load(total), pointer(sums, row, size(LANES * 4 * n), vector), align=1)
        return context.get_dummy_value()

    return types.void(num_rows, weights, types.intp, inputs, sums), generate


multiply_block: Final[Any] = intrinsic(_multiply_block)
