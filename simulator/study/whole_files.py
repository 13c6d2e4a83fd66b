"""Whole files: what is written is complete or absent, whatever interrupts it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, write_to: Callable[[Path], object]) -> None:
    """Have a file written beside its place and put there when it is complete, in place of what was there.

    Raises OSError, which names the file.
    """
    path = path.absolute()
    with scratch_beside(path) as scratch:
        write_to(scratch / path.name)
        os.replace(scratch / path.name, path)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A new folder beside a file or folder to be written, gone afterwards; errors name the one to be written."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        yield scratch
    except OSError as error:
        raise OSError(error.errno, _reason(error), str(path)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reason(error: OSError) -> str:
    """What the operating system says; pyarrow puts more words around it."""
    return os.strerror(error.errno) if error.errno else str(error)
