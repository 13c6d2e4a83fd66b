"""Building machine code of a function: Numba's part, which is only imported where nothing is on disk yet."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import numba

from simulator.engines.compiled.machine_code import MachineCode
from simulator.engines.compiled.pointers import OUTERMOST


def library_of(module: str, name: str, signature: str) -> tuple[str, Any]:
    """The symbol of a module's function compiled for a signature, and Numba's library that has it."""
    dispatcher: Any = numba.njit(**OUTERMOST)(getattr(import_module(module), name))
    dispatcher.compile(signature)
    (result,) = dispatcher.overloads.values()
    return result.fndesc.llvm_func_name, result.library


def machine_code(module: str, name: str, signature: str) -> MachineCode:
    """A module's function compiled for a signature."""
    symbol, library = library_of(module, name, signature)
    _, _, (object_code, _) = library.serialize_using_object_code()
    return MachineCode(symbol, object_code)


def write() -> None:
    """Compile what the command line says, module, function and signature, and write symbol and code to stdout."""
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # for all that anything else may print
        code = machine_code(*sys.argv[1:4])
        output.write(code.symbol.encode() + b"\n" + code.object_code)
