"""Executor: maps a function over tasks, here or in worker processes, with the same results in the same order."""

from __future__ import annotations

import atexit
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from simulator.errors import TpsimError
from simulator.interrupts import interrupts_held_back
from simulator.study.worker import LostConnectionError, Worker

if TYPE_CHECKING:
    from simulator.study.worker import Context

PRELOADED = ["__main__", "simulator.study.run", "simulator.engines.compiled.loaded"]
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


class WorkerLostError(TpsimError):
    """A worker process was killed, as a rule for want of memory."""


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_tasks(
    function: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    jobs: int,
    done: Callable[[int, Outcome], None] = lambda number, outcome: None,
) -> Iterator[Outcome]:
    """Yield function(task) of each task in order; `jobs` processes work ahead.

    `done` is told of every outcome with the task's number as soon as it is there, in whatever order. An interrupt ends
    the workers at once, and they end themselves where this process is killed. Raises WorkerLostError where a worker was
    killed.
    """
    if jobs <= 1 or len(tasks) <= 1:
        for number, task in enumerate(tasks):
            outcome = function(task)
            done(number, outcome)
            yield outcome
        return
    workers: list[Worker] = []
    try:
        with interrupts_held_back():
            context = _context()
            workers.extend(Worker(context) for _ in range(min(jobs, len(tasks))))
        yield from _in_order(_ends(workers, function, tasks), done)
    except LostConnectionError:
        raise WorkerLostError(
            "a worker process was lost: for want of memory (try fewer jobs, -j), or because a script that runs more "
            "than one job does not guard itself with `if __name__ == '__main__':`"
        ) from None
    finally:
        for worker in workers:
            worker.stop()


def _in_order(ends: Iterator[tuple[int, bool, Any]], done: Callable[[int, Outcome], None]) -> Iterator[Outcome]:
    """Yield results, and raise errors, by the numbers of their tasks, from 0 on, however they come."""
    early: dict[int, tuple[bool, Any]] = {}
    following = 0
    for number, succeeded, outcome in ends:
        if succeeded:
            done(number, outcome)
        early[number] = succeeded, outcome
        while following in early:
            succeeded, outcome = early.pop(following)
            if not succeeded:
                raise outcome
            yield outcome
            following += 1


def _ends(
    workers: Sequence[Worker], function: Callable[[Task], Outcome], tasks: Sequence[Task]
) -> Iterator[tuple[int, bool, Any]]:
    """The number of each task, whether it succeeded, and its result or error, as they come.

    A worker has one task at a time: it reads the next one when it has got rid of what came of the last.
    """
    left = iter(enumerate(tasks))
    at_work: dict[Connection, tuple[Worker, int]] = {}

    def give(worker: Worker) -> None:
        for number, task in itertools.islice(left, 1):
            worker.give(function, task)
            at_work[worker.connection] = worker, number

    for worker in workers:
        give(worker)
    while at_work:
        for ready in connection.wait(list(at_work)):
            assert isinstance(ready, Connection)
            worker, number = at_work.pop(ready)
            end = worker.take()
            give(worker)
            yield number, *end


def start_early() -> None:
    """Let what workers are forked from load the simulator while this process does something else."""
    _context()


def _context() -> Context:
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
