"""The processor's instruction for products of bytes, within code that numba compiles.

Processors with VNNI multiply 32 pairs of bytes and add them to 8 sums of 32 bits in one instruction, `vpdpbusd`. No
loop in Python becomes it, so this builds the loop in LLVM's language, once for each number of rows.
"""

from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from charlstm.generation.compiled.layout import BLOCK, GROUP, LANES, NUM_REGISTERS


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
