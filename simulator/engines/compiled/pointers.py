"""Access to shared memory from compiled code, and the decorators that compile it.

Compiled functions get one record, the world, by its address, and reach all else through the addresses in it: a call
passes a pointer, not twenty arrays, nothing is reference-counted, and entering from Python costs microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import types

from simulator.engines.compiled import layout

Record = Any  # a pointer to a record
Function = TypeVar("Function", bound=Callable[..., Any])

intrinsic: Any = extending.intrinsic  # its declared type knows nothing of the functions that it makes


def _compilers() -> tuple[dict[str, Any], dict[str, Any]]:
    """Options that let helpers be linked as parts of outermost functions; none where Numba does not allow it."""
    try:
        from simulator.engines.compiled.linking import PartCompiler, WholeCompiler
    except (ImportError, AttributeError):
        return {}, {}
    return {"pipeline_class": PartCompiler}, {"pipeline_class": WholeCompiler}


_PART, _WHOLE = _compilers()
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
HELPER: dict[str, Any] = {**OPTIONS, **_PART}
OUTERMOST: dict[str, Any] = {**OPTIONS, **_WHOLE}


def compiled(function: Function) -> Function:
    """Compile a function that others call where it stands."""
    decorated: Function = _widening(numba.njit(**HELPER)(function))
    return decorated


def inlined(function: Function) -> Function:
    """Compile a function of the hot path into its callers."""
    decorated: Function = _widening(numba.njit(forceinline=True, **HELPER)(function))
    return decorated


def _widening(dispatcher: Any) -> Any:
    """Compile a helper for whole numbers of 64 bits, and not once more where an argument comes from a 32-bit field.

    Literal arguments keep a helper of their own: without that M/M/4 is 6 % slower.
    """
    compiler = dispatcher._compiler
    fold = compiler.fold_argument_types

    def widened(arguments: Any, named: Any) -> Any:
        signature, folded = fold(arguments, named)
        return signature, tuple(types.int64 if kind == types.int32 else kind for kind in folded)

    compiler.fold_argument_types = widened
    return dispatcher


def _address(context: Any, builder: Any, base: Any, index: Any, size: int) -> Any:
    """Pointer to element `index` of an array at an address."""
    start = builder.inttoptr(base, context.get_value_type(types.voidptr))
    return builder.gep(start, [builder.mul(index, context.get_constant(types.intp, size))])


def _records(dtype: np.dtype[Any]) -> Callable[[int, int], Record]:
    """The function (address, index) -> record."""
    record = numba.from_dtype(dtype)
    size = dtype.itemsize

    def typed(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _address(context, builder, arguments[0], arguments[1], size)
            return builder.bitcast(pointer, context.get_value_type(record))

        return record(types.intp, types.intp), generate

    function: Callable[[int, int], Record] = intrinsic(typed)
    return function


def _loads(scalar: Any, size: int) -> Callable[[int, int], Any]:
    """The function (address, index) -> number."""

    def typed(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _address(context, builder, arguments[0], arguments[1], size)
            kind = context.get_value_type(scalar)
            return builder.load(builder.bitcast(pointer, kind.as_pointer()), typ=kind)

        return scalar(types.intp, types.intp), generate

    function: Callable[[int, int], Any] = intrinsic(typed)
    return function


def _stores(scalar: Any, size: int) -> Callable[[int, int, Any], None]:
    """The function (address, index, number) that writes it."""

    def typed(typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base, index, value = arguments
            pointer = _address(context, builder, base, index, size)
            kind = context.get_value_type(scalar)
            builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, scalar), generate

    function: Callable[[int, int, Any], None] = intrinsic(typed)
    return function


def _reinterpreted(source: Any, target: Any) -> Callable[[Any], Any]:
    """The function that takes the bits of one kind of number for another's."""

    def typed(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    function: Callable[[Any], Any] = intrinsic(typed)
    return function


def _high_word() -> Callable[[int, int], int]:
    """The function that gives the upper 64 bits of the product of two words, taken as unsigned."""

    def typed(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            wide = ir.IntType(128)
            product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

        return types.int64(types.int64, types.int64), generate

    function: Callable[[int, int], int] = intrinsic(typed)
    return function


world_at = _records(layout.WORLD)
event_at = _records(layout.EVENT)
instruction_at = _records(layout.INSTRUCTION)
draw_at = _records(layout.DRAW)
later_tag_at = _records(layout.LATER_TAG)
balancer_at = _records(layout.BALANCER)
scaler_at = _records(layout.SCALER)
station_at = _records(layout.STATION)
queue_at = _records(layout.QUEUE)
token_at = _records(layout.TOKEN)
scope_at = _records(layout.SCOPE)
hold_at = _records(layout.HOLD)
lock_at = _records(layout.LOCK)
workload_at = _records(layout.WORKLOAD)
user_at = _records(layout.USER)
entry_at = _records(layout.ENTRY)
inference_at = _records(layout.INFERENCE)
block_at = _records(layout.BLOCK)
sequence_at = _records(layout.SEQUENCE)
node_at = _records(layout.NODE)

float_at, set_float = _loads(types.float64, 8), _stores(types.float64, 8)
integer_at, set_integer = _loads(types.int64, 8), _stores(types.int64, 8)
index_at, set_index = _loads(types.int32, 4), _stores(types.int32, 4)
bits_of, float_of = _reinterpreted(types.float64, types.int64), _reinterpreted(types.int64, types.float64)
high_product = _high_word()
