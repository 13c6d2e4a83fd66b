"""Machine code of one function: loaded by LLVM, called by way of ctypes, which lets go of Python's lock meanwhile.

The code is a function as Numba makes it: it takes the address of its result, the address for an exception, and its
arguments, and returns 0. It needs no symbol from elsewhere.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from llvmlite import binding as llvm  # type: ignore[import-untyped]

TYPES: dict[str, Any] = {"int64": ctypes.c_int64, "float64": ctypes.c_double}


@dataclass(frozen=True, slots=True)
class MachineCode:
    """Object code, and the name of the function in it."""

    symbol: str
    object_code: bytes

    def function(self, signature: str) -> Callable[..., int]:
        """The function, of a signature such as `int64(int64, float64)`; the result of a `void` one is 0.

        Raises LookupError where the object code has no such symbol.
        """
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(self.object_code))
        engine.finalize_object()
        address = engine.get_function_address(self.symbol)
        if not address:
            raise LookupError(f"the object code has no function {self.symbol}")
        arguments = [TYPES[name] for name in re.findall(r"\w+", signature)[1:]]
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *arguments)
        return partial(_call, prototype(address), engine)


def _call(native: Callable[..., int], engine: Any, *values: float) -> int:
    """Call a function whose code is gone when its `engine` is, which is held for that alone."""
    result, exception = ctypes.c_int64(), ctypes.c_void_p()
    if native(ctypes.addressof(result), ctypes.addressof(exception), *values):
        raise AssertionError("compiled code raised an exception, which none must")
    return result.value


def processor() -> tuple[str, str, str]:
    """Name and features of the processor that code is compiled for."""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@lru_cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def _engine() -> Any:
    """An execution engine of LLVM with nothing in it."""
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target().create_target_machine())
