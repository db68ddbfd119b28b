"""Trials on a Ray cluster: the extra ``ray``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hgq.config import Recipe
from hgq.errors import ConfigError, ToolNotFound
from hgq.sweep.trial import Event, Report, Trial, attempt

POLL_SECONDS = 0.5


class Cluster:
    """One task of Ray a trial. A task whose worker or machine dies loses its trial alone.

    The sweep directory must be on a file system that all machines share, and hgqc be installed on each.

    Args:
        address: ``ray://HOST:PORT``; None: the cluster that the environment names, or one that is started here.
        cpus: Cores that a trial may use.

    Raises:
        ToolNotFound: Ray is not installed.
        ConfigError: no such cluster.
    """

    def __init__(self, address: str | None = None, cpus: int = 1) -> None:
        try:
            import ray
        except ImportError:
            raise ToolNotFound("Ray is not installed.", where="--workers", fix='pip install "hgqc[ray]"') from None
        self._ray, self._cpus = ray, cpus
        if not ray.is_initialized():
            try:
                ray.init(address=address, **({} if address else {"include_dashboard": False, "log_to_driver": False}))
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    "There is no such Ray cluster.", where="--workers", received=f"{address}: {str(error).splitlines()[0]}"
                ) from None

    def run(self, trials: Sequence[Trial], out: Path, report: Report) -> None:
        """See `hgq.sweep.runners.Runner`."""
        from ray.util.queue import Queue

        ray, events = self._ray, Queue()
        # No retries of Ray's own: `sweep` begins a lost trial again, and says so.
        task = ray.remote(num_cpus=self._cpus, max_retries=0)(_work)
        under_way = {
            task.remote(
                {"name": trial.name, "recipe": trial.recipe.to_toml(), "directory": str(trial.directory(out.absolute()))}, events
            ): trial
            for trial in trials
        }
        try:
            while under_way:
                ended, _ = ray.wait(list(under_way), timeout=POLL_SECONDS)
                self._told(events, report)
                for reference in ended:
                    report(self._outcome(reference, under_way.pop(reference)))
        finally:
            for reference in under_way:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(reference)
            with suppress(ray.exceptions.RayError):
                events.shutdown()

    def _outcome(self, reference: Any, trial: Trial) -> Event:
        """How a task ended."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Event("lost", trial.name, f"its worker died: {str(error).splitlines()[0]}")

    @staticmethod
    def _told(events: Any, report: Report) -> None:
        """Hand on what tasks said so far."""
        for event in events.get_nowait_batch(events.qsize()):
            report(event)


def _work(order: dict[str, str], events: Any) -> Event:
    """A task: run the trial; returns how it ended."""
    last: list[Event] = []

    def report(event: Event) -> None:
        if event.kind in ("done", "failed"):
            last.append(event)
        else:
            events.actor.put_nowait.remote(event)  # who waits for an answer lends its cores to another task meanwhile

    trial = Trial(order["name"], {}, Recipe.from_text(order["recipe"], order["name"]))
    attempt(trial, Path(order["directory"]), report)
    return last[0]
