"""Docstrings of attributes, which Python does not keep: read from a class's source when somebody asks.

Pydantic can do that for every class as it is made, which takes longer than a small simulation.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise


@cache
def attribute_docstrings(kind: type) -> dict[str, str]:
    """The text under each annotated attribute of a class and those that it inherits; none where there is no source."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        definition = _definitions(each.__module__).get(each.__name__)
        if definition is not None:
            found |= _texts(definition)
    return found


@cache
def _definitions(module: str) -> dict[str, ast.ClassDef]:
    """A module's classes by their names."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):  # a module that is built in, or made without a file
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _texts(definition: ast.ClassDef) -> dict[str, str]:
    return {
        attribute.target.id: inspect.cleandoc(text.value.value)
        for attribute, text in pairwise(definition.body)
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
