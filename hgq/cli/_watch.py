"""A sweep as it goes on, on stderr: bars on a terminal, a line for each trial elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hgq.cli import _output

if TYPE_CHECKING:
    from hgq.sweep.trial import Event


class Watch:
    """Shows events; a context manager.

    Args:
        total: How many trials there are.
        done: How many of them are done already.
        visible: None: bars only when stderr is a terminal.
    """

    def __init__(self, total: int, done: int = 0, visible: bool | None = None) -> None:
        self._total, self._done = total, done
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._visible = sys.stderr.isatty() if visible is None else visible

    def __enter__(self) -> Watch:
        if self._visible:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=Console(stderr=True),
            )
            self._bars.start()
            self._all = self._bars.add_task("trials", total=self._total, completed=self._done, numbers="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind in ("done", "failed", "lost"):
            self._done += event.kind == "done"
            if self._bars is not None:
                if (task := self._tasks.pop(event.trial, None)) is not None:
                    self._bars.remove_task(task)
                self._bars.update(self._all, completed=self._done)
            if event.kind == "done":
                _output.done(f"{event.trial} ({self._done} of {self._total})")
            else:
                _output.warning(f"{event.trial} {event.kind}: {event.text.splitlines()[0]}")
            return
        if self._bars is None:
            return
        if event.trial not in self._tasks:
            self._tasks[event.trial] = self._bars.add_task(event.trial, total=None, numbers="")
        task = self._tasks[event.trial]
        if event.kind == "epoch":
            self._bars.update(task, completed=event.epoch, total=event.total, numbers=event.text)
        else:
            self._bars.update(task, numbers=event.text)
