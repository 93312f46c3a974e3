"""How functions become machine code: without fast-math, so each operation is rounded alone, in the order written.

Nothing is kept on disk: numba would pickle it. Functions get all memory from outside: numba counts no references.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
OPTIONS: Final = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}


def entry(function: Function) -> Function:
    """What Python calls; other threads go on meanwhile."""
    return cast(Function, numba.njit(**OPTIONS)(function))


def part(function: Function) -> Function:
    """What only machine code calls: saves compiling what translates Python's objects."""
    return cast(Function, numba.njit(no_cpython_wrapper=True, **OPTIONS)(function))


def inlined(function: Function) -> Function:
    """A part that becomes part of its only caller: saves compiling it twice."""
    return cast(Function, numba.njit(no_cpython_wrapper=True, inline="always", **OPTIONS)(function))
