"""How far the work is, on stderr."""

from __future__ import annotations

import sys
import threading
from typing import Any


class Bar:
    """A progress bar on stderr, shown once the work has lasted a second and stderr is a terminal."""

    patience = 1.0

    def __init__(self, label: str) -> None:
        self.label = label
        self.done, self.planned = 0, 0
        self.shown: Any = None
        self.task: Any = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(self.patience, self._show)
        self.timer.daemon = True

    def __call__(self, done: int, planned: int) -> None:
        """Tell how much is done."""
        with self.lock:
            self.done, self.planned = done, planned
            if self.shown is not None:
                self.shown.update(self.task, completed=done, total=planned)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        with self.lock:
            if self.timer.finished.is_set():
                return
            self.shown = Progress(console=Console(stderr=True), transient=True)
            self.task = self.shown.add_task(self.label, completed=self.done, total=self.planned or None)
            self.shown.start()

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            self.timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.timer.cancel()
            if self.shown is not None:
                self.shown.stop()


class Trials:
    """Shows how many trials were made, of an unknown number."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.done = 0

    def __call__(self, value: float, met: bool) -> None:
        """Tell of one more."""
        self.done += 1
        self.bar(self.done, max(self.done + 1, 8))
