"""A worker process: takes one task at a time, and sends back what came of it.

Each has a pipe of its own, of which nobody else has the worker's end: however it ends, and be it half way through a
result, what is read from it ends too. In a queue that workers share, the others' ends would keep a reader waiting.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from simulator.engines import unkept
from simulator.errors import TpsimError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

    Context = ForkServerContext | SpawnContext

LONGEST_END = 1.0
"""Seconds to wait for a process to be gone that has been told to end."""


class LostConnectionError(Exception):
    """A worker is gone with what it was working on."""


class Worker:
    """A process that applies functions to tasks."""

    def __init__(self, context: Context) -> None:
        self.connection, its = context.Pipe()
        self.process = context.Process(target=_work, args=(its, unkept.everything()), daemon=True)
        self.process.start()
        its.close()

    def give(self, function: Callable[[Any], Any], task: Any) -> None:
        """Let it work on a task; it must not be at work. Raises LostConnectionError where it is gone."""
        try:
            self.connection.send((function, task))
        except OSError:
            raise LostConnectionError from None

    def take(self) -> tuple[bool, Any]:
        """Wait for the end of its task: whether it succeeded, and its result or error.

        Raises LostConnectionError where it is gone.
        """
        try:
            succeeded, outcome = self.connection.recv()
        except (EOFError, OSError):
            raise LostConnectionError from None
        return succeeded, outcome

    def stop(self) -> None:
        """End it at once."""
        self.process.terminate()
        self.connection.close()
        self.process.join(LONGEST_END)


def _work(tasks: Connection, machine_code: Mapping[str, bytes]) -> None:
    """Work on tasks as they come, with the machine code that the parent compiled where it is not on disk."""
    _belong_to_the_parent()
    unkept.adopt(machine_code)
    with suppress(EOFError):
        while True:
            function, task = tasks.recv()
            tasks.send_bytes(_outcome(function, task))


def _outcome(function: Callable[[Any], Any], task: Any) -> bytes:
    """Whether a task succeeded, and its result or error, as what goes through the pipe."""
    try:
        return pickle.dumps((True, function(task)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        if not isinstance(error, TpsimError):
            error.add_note("".join(traceback.format_exception(error)))
        return pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)


def _belong_to_the_parent() -> None:
    """Leave interrupts to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
