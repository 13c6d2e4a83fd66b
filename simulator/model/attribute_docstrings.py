"""Docstrings of attributes, which Python does not keep: read from a class's source when somebody asks.

Pydantic can do that for every class as it is made, which takes longer than a small simulation.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The text under each annotated attribute of a class and those that it inherits; none where there is no source."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        found |= _own(each)
    return found


def _own(kind: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(source).body
    if not isinstance(definition, ast.ClassDef):
        return {}
    return {
        attribute.target.id: inspect.cleandoc(text.value.value)
        for attribute, text in pairwise(definition.body)
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
