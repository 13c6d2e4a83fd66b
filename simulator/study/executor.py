"""Executor: maps a function over tasks, here or in worker processes, with the same results in the same order."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from typing import TypeVar

from simulator.engines import unkept
from simulator.errors import TpsimError

PRELOADED = ["__main__", "simulator.study.run", "simulator.engines.compiled.loaded"]
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


class WorkerLostError(TpsimError):
    """A worker process was killed, as a rule for want of memory."""


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_tasks(function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Yield function(task) of each task in order; `jobs` processes work ahead.

    An interrupt ends the workers at once, and they end themselves where this process is killed. Raises
    WorkerLostError where a worker was killed.
    """
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), _context(), _begin, (unkept.everything(),))
    try:
        with interrupts_held_back():
            futures: list[Future[Outcome]] = [executor.submit(function, task) for task in tasks]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise WorkerLostError(
            "a worker process was lost: for want of memory (try fewer jobs, -j), or because a script that runs more "
            "than one job does not guard itself with `if __name__ == '__main__':`"
        ) from None
    finally:
        _stop(executor)


def start_early() -> None:
    """Let what workers are forked from load the simulator while this process does something else."""
    _context()


def _context() -> BaseContext:
    """Workers are forked from a server that has the simulator loaded, where there is such a thing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # on its own, because it lifts the block of interrupts
    with interrupts_held_back(), _without_working_directory():
        forkserver.ensure_running()
        _end_fork_server_at_exit(os.getpid())
    return context


@lru_cache
def _end_fork_server_at_exit(parent: int) -> None:
    """End the fork server with this process, rather than once it has loaded everything and finds itself alone."""

    def end() -> None:
        server = getattr(forkserver._forkserver, "_forkserver_pid", None)
        if server is not None and os.getpid() == parent:
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGTERM)

    atexit.register(end)


@contextmanager
def _without_working_directory() -> Iterator[None]:
    """Let the fork server import what this process imports: it would find a checkout in the working directory first."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Deliver an interrupt after the block; processes started in it never get one of their own.

    A blocked signal is inherited, but comes to this process all the same where one of its threads, say of a
    numerical library, does not block it: so the handler waits, too. Only the main thread is ever interrupted.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with _inherited_block():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _inherited_block() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(machine_code: Mapping[str, bytes]) -> None:
    """Begin as a worker, with the machine code that the parent compiled where it is not on disk."""
    _belong_to_the_parent()
    unkept.adopt(machine_code)


def _belong_to_the_parent() -> None:
    """Leave interrupts to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _stop(executor: ProcessPoolExecutor) -> None:
    processes = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
