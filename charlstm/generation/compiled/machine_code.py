"""How functions become machine code: without fast-math, so each operation is rounded alone, in the order written.

Functions get all memory from outside: numba counts no references. Only to compile, this is imported.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, cast

import numba
from numba.core import cgutils, registry
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from charlstm.generation.compiled.object_code import TARGET, ObjectCode, types_of

Function = TypeVar("Function", bound=Callable[..., Any])
types: Final[Any] = numba.core.types  # numba's own stub lacks most of them
OPTIONS: Final = {"error_model": "numpy", "_nrt": False}
PART: Final = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}  # saves compiling what Python calls


def part(function: Function) -> Function:
    """What only machine code calls."""
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
        return _value(context, builder, type_, _loaded(builder, arguments[0]))

    return intrinsic(lambda typing_context, numbers: (type_(numbers), generate))


def _loaded(builder: Any, numbers: Any) -> Iterator[Any]:
    """One number after the other."""
    index = 0
    while True:
        yield builder.load(builder.gep(numbers, [cgutils.int32_t(index)]))
        index += 1


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
