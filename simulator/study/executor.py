"""Executor: maps a function over tasks, here or in worker processes, with the same results in the same order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from simulator.errors import TpsimError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


class WorkerLostError(TpsimError):
    """A worker process was killed, as a rule for want of memory."""


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_tasks(function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Yield function(task) of each task in order; `jobs` processes work ahead.

    An interrupt ends the workers at once. Raises WorkerLostError where a worker was killed.
    """
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    )
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_leave_interrupts_to_the_parent)
    try:
        futures: list[Future[Outcome]] = [executor.submit(function, task) for task in tasks]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise WorkerLostError("a worker process was killed (out of memory?); try fewer jobs (-j)") from None
    finally:
        _stop(executor)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(executor: ProcessPoolExecutor) -> None:
    processes = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
