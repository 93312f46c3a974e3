"""The machine code that tests call: of this machine's cache, or compiled for them."""

from charlstm.generation.compiled.object_code import Function, keep, kept
from charlstm.generation.compiled.stepper import compile_for
from charlstm.generation.quantized import quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape


def machine_code() -> Function:
    """Compiled once for all tests."""
    if kept() is None:
        keep(Function(compile_for(quantize(CharLSTM(ModelShape(2, 1, 1, 1), "gates")))))
    assert (function := kept())
    return function
