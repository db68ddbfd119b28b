"""Sweeps on Ray: a cluster is started here. It takes the extra ``ray``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hgq.errors import ConfigError
from hgq.sweep import Plan, sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray")
    yield found
    found.shutdown()


def tasks():
    """Processes that work on a trial, by the title that Ray gives them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::_work"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_killed_task_loses_only_its_trial(ray, tmp_path, recipe_text):
    from hgq.sweep.cluster import Cluster

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)  # one task at a time: which process has which trial is plain
    plan = Plan.from_text(recipe_text(epochs=80), {"seed": "0:2"})
    events, killed = [], []

    def report(event):
        events.append(event)
        begun = plan.trials()[0].directory(tmp_path / "out") / "checkpoint" / "state.npz"
        if event.kind == "epoch" and event.trial == "seed0" and not killed and begun.is_file():
            killed.extend(tasks())
            for number in killed:
                os.kill(number, signal.SIGKILL)

    result = sweep(plan, tmp_path / "out", runner=Cluster(), report=report)
    assert len(killed) == 1 and [event.trial for event in events if event.kind == "lost"] == ["seed0"]
    assert [row["state"] for row in result.rows] == ["done", "done"] and not result.failures
    when = next(index for index, event in enumerate(events) if event.kind == "lost")
    again = [event.epoch for event in events[when:] if event.kind == "epoch" and event.trial == "seed0"]
    assert again[-1] >= 80 and len(again) < again[-1], "it went on from its checkpoint"


@pytest.mark.filterwarnings("ignore")
def test_no_cluster(ray):
    from hgq.sweep.cluster import Cluster

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigError, match="no such Ray cluster"):
        Cluster("ray://127.0.0.1:9")
