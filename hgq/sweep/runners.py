"""Who runs the trials of a sweep."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from hgq.errors import ConfigError
from hgq.sweep.trial import Event, Report, Trial, attempt

log = logging.getLogger("hgq.sweep")

PATIENCE_SECONDS = 20.0
"""How long an interrupted worker may take to leave."""
WORKER = [sys.executable, "-m", "hgq.sweep.worker"]


class Runner(Protocol):
    """Runs trials, in any order; each ends with an event ``done``, ``failed`` or ``lost``."""

    def run(self, trials: Sequence[Trial], out: Path, report: Report) -> None:
        """Run all of them. `report` is called in one thread at a time.

        Raises:
            KeyboardInterrupt: trials under way have stopped where they can go on.
        """
        ...


class Here:
    """One trial after the other, in this process: Keras is loaded once."""

    def run(self, trials: Iterable[Trial], out: Path, report: Report) -> None:
        """See `Runner`."""
        for trial in trials:
            attempt(trial, trial.directory(out), report)


class Together:
    """Trials of one architecture by one step, in this process: `hgq.sweep.stack`. What cannot be done so is done as by `Here`.

    A trial that is trained goes on in one of as many processes as there are cores, which estimate, verify and report it while this one
    freezes the next: they start in half a second, since they need Keras only to verify.
    """

    def run(self, trials: Sequence[Trial], out: Path, report: Report) -> None:
        """See `Runner`."""
        from hgq.sweep.groups import groups

        for group in groups(trials):
            alone = any(trial.recipe.train.devices != 1 for trial in group)  # one step is one device's
            if len(group) == 1 or alone or not self._trained(group, out, report):
                Here().run(group, out, report)

    def _trained(self, group: list[Trial], out: Path, report: Report) -> bool:
        """Whether the trials could be trained together, and were."""
        from hgq.sweep.stack.lockstep import lockstep

        hands = min(_cores(), len(group))
        try:
            (Processes(hands) if hands > 1 else Here()).run(lockstep(group, out, report), out, report)
        except ConfigError as error:
            log.warning("Trials %s to %s are trained one after the other.\n%s", group[0].name, group[-1].name, error.text())
            return False
        return True


class Processes:
    """Some processes beside this one, each with one trial at a time. One that dies loses its trial, and is replaced.

    Args:
        count: How many.
        threads: Of TensorFlow in each; None shares the cores among them.
    """

    def __init__(self, count: int, threads: int | None = None) -> None:
        self.count, self.threads = count, threads or max(1, _cores() // count)

    def run(self, trials: Iterable[Trial], out: Path, report: Report) -> None:
        """See `Runner`. Of an iterator, each trial is begun when it comes."""
        waiting: queue.SimpleQueue[Trial | None] = queue.SimpleQueue()
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        hands: list[_Hand] = []
        left = 0

        def tell(event: Event) -> None:
            nonlocal left
            report(event)
            left -= event.kind in ("done", "failed", "lost")

        try:
            for trial in trials:
                waiting.put(trial)
                left += 1
                if len(hands) < self.count:
                    hands.append(_Hand(len(hands), self._environment(), out, waiting, events.put))
                    hands[-1].start()
                for event in _at_hand(events):
                    tell(event)
            while left:
                tell(events.get())
        finally:
            for hand in hands:
                hand.stop()
                waiting.put(None)
            for hand in hands:
                hand.join(PATIENCE_SECONDS)
                hand.kill()
                hand.join()

    def _environment(self) -> dict[str, str]:
        threads = {name: str(self.threads) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
        return {"TF_CPP_MIN_LOG_LEVEL": "3", **threads, **os.environ}


def _at_hand(events: queue.SimpleQueue[Event]) -> Iterator[Event]:
    """What is in the queue now."""
    with suppress(queue.Empty):
        while True:
            yield events.get_nowait()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Hand(threading.Thread):
    """Feeds one worker process with trials, and hands on what it says."""

    def __init__(self, number: int, environment: dict[str, str], out: Path, waiting: Any, put: Any) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self._environment, self._out, self._waiting, self._put = environment, out, waiting, put
        self._log = out / "logs" / f"worker{number}.log"
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self) -> None:
        while not self._stopped:
            trial = self._waiting.get()
            if trial is None:
                break
            try:
                ended = self._one(trial)
            except OSError as error:
                ended = f"its worker cannot be started: {error}"
            if ended is not None and not self._stopped:
                self._put(Event("lost", trial.name, ended))
        self._leave()

    def _one(self, trial: Trial) -> str | None:
        """Have the worker run a trial; returns what became of the worker if it died."""
        process = self._worker()
        if process is None:
            return "interrupted"
        with suppress(OSError):  # if it died, its output ends
            order = {"directory": str(trial.directory(self._out)), "name": trial.name, "recipe": trial.recipe.to_toml()}
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        with suppress(ValueError):  # a last line that is cut off
            for line in process.stdout or ():
                event = Event(**json.loads(line))
                self._put(event)
                if event.kind in ("done", "failed"):
                    return None
        code = process.wait()
        self._leave()
        self._process = None
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its worker died ({why}); see {self._log}"

    def _worker(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopped:
                return None
            if self._process is None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                with self._log.open("a") as log:  # a session of its own: an interrupt reaches it through `stop` alone, once
                    self._process = subprocess.Popen(
                        WORKER,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        env=self._environment,
                        start_new_session=True,
                    )
            return self._process

    def stop(self) -> None:
        """Interrupt what it does, and take no more trials; one that waits for a trial wants to be given None."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End a worker that does not heed an interrupt."""
        if self._process is not None and self._process.poll() is None and self.is_alive():
            self._process.kill()

    def _leave(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()  # no more orders: it leaves
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
