"""Machine code that this process compiled and could not keep on disk: worker processes are given it by their parent.

It goes to them as what it is, through the pipe that their tasks come by, and not through a temporary directory, where
somebody else could put other code.
"""

from __future__ import annotations

from collections.abc import Mapping

_content: dict[str, bytes] = {}


def remember(file: str, content: bytes) -> None:
    """Remember what a file of this name would hold."""
    _content[file] = content


def recall(file: str) -> bytes | None:
    """What a file of this name would hold; None where it is not known."""
    return _content.get(file)


def everything() -> Mapping[str, bytes]:
    """All that is remembered, by file name."""
    return dict(_content)


def adopt(content: Mapping[str, bytes]) -> None:
    """Remember what another process remembers."""
    _content.update(content)
