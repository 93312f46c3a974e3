"""Machine code as a file, in the user's cache folder. It is called without numba, whose import takes half a second.

numba's own cache would need that import, unpickles, and does not see a change of a function in another file. Here a
file's name is a hash of all that its bytes depend on: the source, the compilers' versions, and the processor. It is
whole or absent, and has its SHA-256, so processes may read and write it at the same time.
"""

import contextlib
import ctypes
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import llvmlite
import numpy as np
from llvmlite import binding
from platformdirs import user_cache_path

from charlstm.files.atomic import write_bytes

SOURCE: Final = Path(__file__).parent.parent  # constants of these files become part of the code
DIGEST_BYTES: Final = 32
END: Final = b"\0"  # of a name


class Target(NamedTuple):
    """The processor that code is compiled for, as LLVM names it: this one."""

    name: str
    features: str

    @property
    def has_vnni(self) -> bool:
        """Whether it has the instruction `vpdpbusd` for registers of 256 bits (see `kernels.py`)."""
        features = set(self.features.split(","))
        return "+avxvnni" in features or {"+avx512vnni", "+avx512vl"} <= features


TARGET: Final = Target(binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())


class ObjectCode(NamedTuple):
    """A compiled function, `void NAME(int64_t *arguments)`, and the types of its arguments, as `types_of` has them."""

    name: str
    types: str
    code: bytes


class Function:
    """Object code that can be called. Python's lock is free meanwhile."""

    def __init__(self, compiled: ObjectCode) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(*TARGET, jit=True)
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.object_file.ObjectFileRef.from_data(compiled.code))
        self._engine.finalize_object()
        self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._engine.get_function_address(compiled.name))
        self.compiled = compiled

    def __call__(self, *arguments: Any) -> None:
        """Call it with arrays, whole numbers, and tuples of them. Arrays change in place."""
        if (types := types_of(arguments)) != self.compiled.types:  # machine code would write where it must not
            raise TypeError(f"expected {self.compiled.types}, got {types}")
        numbers = np.fromiter(_numbers(arguments), np.int64)
        self._call(numbers.ctypes.data)


def types_of(value: Any) -> str:
    """The types of arguments, in short: of arrays, dtype and number of dimensions."""
    if isinstance(value, tuple):
        return "".join(map(types_of, value))
    return f"{value.dtype.char}{value.ndim}" if isinstance(value, np.ndarray) else "n"


def _numbers(value: Any) -> Iterator[int]:
    """The numbers that stand for a value: of an array, its address and its sizes, as it has no gaps."""
    if isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise TypeError("expected an array without gaps")
        yield value.ctypes.data
        yield from value.shape
    else:
        yield value


_functions: Final[list[Function]] = []  # none or one: it takes a moment to load


def kept() -> Function | None:
    """The function that this process or an earlier one compiled, if it is there and whole."""
    if not _functions:
        with contextlib.suppress(OSError, ValueError):
            content = (file := _file().read_bytes())[DIGEST_BYTES:]
            name, types, code = content.split(END, 2)
            if hashlib.sha256(content).digest() == file[:DIGEST_BYTES]:
                _functions.append(Function(ObjectCode(name.decode(), types.decode(), code)))
    return _functions[0] if _functions else None


def keep(function: Function) -> None:
    """Keep the compiled function for this process, and in the cache folder, if there is one, for later ones."""
    _functions[:] = [function]
    name, types, code = function.compiled
    content = END.join([name.encode(), types.encode(), code])
    with contextlib.suppress(OSError):
        write_bytes(_file(), hashlib.sha256(content).digest() + content)


def _file() -> Path:
    folder = user_cache_path("charlstm")
    if not folder.is_absolute():
        raise OSError("this user has no home folder")
    return folder / f"sampler-{_key()}.o"


@cache
def _key() -> str:
    digest = hashlib.sha256("\n".join((version("numba"), llvmlite.__version__, *TARGET)).encode())
    for file in sorted(SOURCE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
