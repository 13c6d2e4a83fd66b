"""Linking all helpers into one library that LLVM optimizes as a whole, once.

By itself Numba makes a library of each function, links into it all that the function calls, optimizes that, and makes
machine code of it, which for a helper nobody runs, as it is compiled again into its callers. Here a helper stays as
written, a `Part`, and the outermost function, a `Whole`, links every part once. That halves the time to compile the
engine, to equal speed of the engine. Passes of Numba that no helper needs are left out too (no closures,
comprehensions, `raise`, or `with`); a function that calls itself, also by way of others, cannot be compiled.

Numba lets a function choose its compiler, its `pipeline_class`, but how a library is made is private to Numba. Where
it is made in another way than in 0.60 to 0.68, this module raises ImportError, and Numba does as it always does.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage  # type: ignore[import-untyped]
from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import cpu_target

_make_function: Any = _dynfunc.make_function
_Library: Any = JITCodeLibrary
_Lowering: Any = typed_passes.NativeLowering
_Compiler: Any = CompilerBase
_Passes: Any = PassManager
_register: Any = register_pass

BEFORE_LOWERING = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
)


class Part(_Library):  # type: ignore[misc]
    """The library of a helper: what is to be linked, and no more."""

    def finalize(self) -> None:
        """Leave it as it is."""
        self._finalized = True


class Whole(_Library):  # type: ignore[misc]
    """The library of an outermost function, with all parts that it needs."""

    def finalize(self) -> None:
        """Link the parts, each once and visible from here only; then optimize and make machine code."""
        parts: dict[Any, None] = {}
        others: dict[Any, None] = {}
        _gather(self, parts, others)
        for part in parts:
            self._final_module.link_in(part._final_module, preserve=True)
        for part in parts:
            for function in part._final_module.functions:
                if function.linkage is Linkage.external and not function.is_declaration:
                    self._final_module.get_function(function.name).linkage = Linkage.internal
        self._linking_libraries = list(others)
        super().finalize()


def _gather(library: Any, parts: dict[Any, None], others: dict[Any, None]) -> None:
    """All that a library links, by way of its parts too, in an order that does not change."""
    for linked in library._linking_libraries:
        if not isinstance(linked, Part):
            others[linked] = None
        elif linked not in parts:
            parts[linked] = None
            _gather(linked, parts, others)


@_register(mutates_CFG=True, analysis_only=False)
class LowerPart(_Lowering):  # type: ignore[misc]
    """Writes a helper down for LLVM; it has no machine code of its own."""

    _name = "lower_part"

    def run_pass(self, state: Any) -> bool:
        """Give the helper a library, and let its callers find it by a function that stands for it."""
        state.library = Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        description = lowered.fndesc
        module, name = description.lookup_module(), description.qualname
        stands_for_it = _make_function(module, name, "", 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(stands_for_it, description, [state.library])
        state["cr"] = lowered._replace(cfunc=stands_for_it)
        return True


@_register(mutates_CFG=True, analysis_only=False)
class LowerWhole(_Lowering):  # type: ignore[misc]
    """Compiles an outermost function with its parts."""

    _name = "lower_whole"

    def run_pass(self, state: Any) -> bool:
        """Give the function a library that can be kept on disk."""
        state.library = Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return bool(super().run_pass(state))


def _passes(lowering: Any) -> list[Any]:
    manager = _Passes("tpsim")
    for each in (*BEFORE_LOWERING, lowering, typed_passes.NoPythonBackend):
        manager.add_pass(each, each.__name__)
    manager.finalize()
    return [manager]


class PartCompiler(_Compiler):  # type: ignore[misc]
    """Compiles a helper."""

    def define_pipelines(self) -> list[Any]:
        """What Numba asks of a compiler."""
        return _passes(LowerPart)


class WholeCompiler(_Compiler):  # type: ignore[misc]
    """Compiles an outermost function."""

    def define_pipelines(self) -> list[Any]:
        """What Numba asks of a compiler."""
        return _passes(LowerWhole)


def _check() -> None:
    """Raise ImportError where a library is not made of what this module uses."""
    library = cpu_target.target_context.codegen().create_library("check")
    for name in ("finalize", "enable_object_caching", "_finalized", "_final_module", "_linking_libraries"):
        if not hasattr(library, name):
            raise ImportError(f"this version of Numba has no {name} in its libraries")


_check()
