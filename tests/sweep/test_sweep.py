"""Whole sweeps: what is in the directory, what an interrupt and a lost worker leave, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hgq.config import Recipe
from hgq.errors import ConfigError, OutputError
from hgq.sweep import Plan, sweep
from hgq.sweep.runners import Processes
from hgq.sweep.trial import Event
from tests.blobs import recipe

MAIN = [sys.executable, "-c", "from hgq.cli import main; main()"]


def table(out):
    with (out / "sweep.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def same_training(one, other):
    """Whether two run directories hold the same training, bit for bit."""

    def history(directory):
        with (directory / "history.csv").open(newline="") as lines:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(lines)]

    from hgq.ir import file

    return history(one) == history(other) and file.load(one / "model.hgq").digest() == file.load(other / "model.hgq").digest()


class Lost:
    """A runner whose worker dies in the first trial it is given, once."""

    def __init__(self):
        self.asked = []

    def run(self, trials, out, report):
        from hgq.sweep.runners import Here

        self.asked.append([trial.name for trial in trials])
        if len(self.asked) == 1:
            report(Event("lost", trials[0].name, "its worker died (signal SIGKILL)"))
            trials = trials[1:]
        Here().run(trials, out, report)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, blobs):
    """A sweep of three trials, one of which was lost once and means nothing the second time."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    plan = Plan.from_text(recipe(blobs.as_posix()), {"train.optimizer": ["nothing", "adam", "adamw"]})
    runner, events = Lost(), []
    result = sweep(plan, out, runner=runner, report=events.append)
    return plan, out, result, runner, events


def test_what_a_sweep_leaves(swept):
    _, out, result, runner, events = swept
    assert {path.name for path in out.iterdir()} >= {"sweep.toml", "trials", "sweep.csv", "sweep.html", "failures.json"}
    rows = table(out)
    assert (
        [row["trial"] for row in rows] == ["optimizernothing", "optimizeradam", "optimizeradamw"] == [row["trial"] for row in result.rows]
    )
    # whose worker died was begun again, alone; what means nothing failed once, and did not end the sweep
    assert runner.asked == [["optimizernothing", "optimizeradam", "optimizeradamw"], ["optimizernothing"]]
    assert rows[0]["state"] == "failed" and "Unknown optimizer" in json.loads((out / "failures.json").read_text())["optimizernothing"]
    assert not result.ok and set(result.failures) == {"optimizernothing"}
    for row in rows[1:]:
        run = json.loads((out / "trials" / row["trial"] / "result.json").read_text())
        (point,) = run["points"]
        assert row["state"] == "done" and int(row["ebops"]) == point["ebops"] and float(row["test"]) == point["test"]
        assert float(row["budget"]) == point["budget"] == 300 and row["train.optimizer"] == row["trial"].removeprefix("optimizer")
        estimate = json.loads((out / "trials" / row["trial"] / "estimate.json").read_text())
        assert int(row["lut"]) == round(estimate["lut"]["value"])
        assert (out / row["model"]).is_file() and (out / "trials" / row["trial"] / "report.html").is_file()
    done = [(int(row["ebops"]), float(row["val"])) for row in rows[1:]]
    beaten = [any(a <= cost and b >= val and (a, b) != (cost, val) for a, b in done) for cost, val in done]
    assert [row["front"] == "True" for row in rows[1:]] == [not lost for lost in beaten]
    assert [event.epoch for event in events if event.kind == "epoch" and event.trial == "optimizeradam"] == list(
        range(1, int(rows[1]["epochs"]) + 1)
    )
    page = (out / "sweep.html").read_text()
    assert "2 of 3 trials" in page and "<svg" in page and 'href="trials/optimizeradam/report.html"' in page and "Unknown optimizer" in page


def test_a_trial_is_what_training_alone_makes(swept, tmp_path):
    from hgq.training import train

    plan, out, *_ = swept
    trial = plan.trials()[1]
    assert Recipe.from_toml(trial.directory(out) / "recipe.toml") == Recipe.from_text(trial.recipe.to_toml())
    train(trial.recipe, tmp_path / "alone", progress=False)
    assert same_training(tmp_path / "alone", trial.directory(out))


def test_resume_does_what_is_missing(swept):
    plan, out, *_ = swept
    before = {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("model.*")}

    class Nobody:
        def run(self, trials, out, report):
            assert [trial.name for trial in trials] == ["optimizernothing"]
            for trial in trials:
                report(Event("failed", trial.name, "again"))

    again = sweep(plan, out, resume=True, runner=Nobody())
    assert again.failures == {"optimizernothing": "again"}
    assert {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("model.*")} == before


def test_refusals(swept, tmp_path, recipe_text):
    plan, out, *_ = swept
    with pytest.raises(OutputError, match="not empty"):
        sweep(plan, out)
    with pytest.raises(OutputError, match="no sweep to resume"):
        sweep(plan, tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="other trials"):
        sweep(Plan.from_text(recipe_text(), {"seed": "0:2"}), out, resume=True)


def started(pid):
    """Processes that `pid` started, the oldest first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(fields[19]), int(stat.parent.name)))
    return [number for _, number in sorted(found)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_killed_worker_loses_only_its_trial(tmp_path, recipe_text):
    """Two workers, three trials; kill -9 hits one in the midst of a trial, which goes on from its checkpoint in a new worker."""
    plan = Plan.from_text(recipe_text(epochs=80), {"seed": "0:3"})
    before, killed, events = set(started(os.getpid())), [], []

    def report(event):
        events.append(event)
        begun = [tmp_path / "out" / "trials" / name / "checkpoint" / "state.npz" for name in ("seed0", "seed1")]
        if event.kind == "epoch" and not killed and all(path.is_file() for path in begun):  # which of them a worker has, chance decides
            killed.append(next(number for number in started(os.getpid()) if number not in before))
            os.kill(killed[0], signal.SIGKILL)

    result = sweep(plan, tmp_path / "out", runner=Processes(2), report=report)
    lost = [event.trial for event in events if event.kind == "lost"]
    assert len(killed) == 1 and len(lost) == 1
    assert [row["state"] for row in result.rows] == ["done"] * 3 and not result.failures
    when = next(index for index, event in enumerate(events) if event.kind == "lost")
    again = [event.epoch for event in events[when:] if event.kind == "epoch" and event.trial == lost[0]]
    assert again[0] > 1 and again == list(range(again[0], again[-1] + 1)), "it went on from its checkpoint"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_trials_are_begun_as_they_come_and_an_interrupt_ends_all(tmp_path, swept):
    """As `Together` gives them: two that are trained already, and only want their report; then the user has enough."""
    plan, out, *_ = swept
    trials, before, events = plan.trials()[1:], set(started(os.getpid())), []
    for trial in trials:
        shutil.copytree(trial.directory(out), trial.directory(tmp_path), ignore=shutil.ignore_patterns("report.html", "estimate.json"))

    def come():
        yield trials[0]
        while len(list(tmp_path.glob("trials/*/report.html"))) < 1:
            time.sleep(0.05)
        yield trials[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Processes(2).run(come(), tmp_path, events.append)
    assert (trials[0].directory(tmp_path) / "estimate.json").is_file()
    assert [event.trial for event in events if event.kind in ("done", "failed", "lost")] in ([], [trials[0].name])
    assert set(started(os.getpid())) <= before


@pytest.mark.slow
def test_interrupt_and_resume_from_outside(tmp_path, recipe_text):
    (tmp_path / "r.toml").write_text(recipe_text(epochs=150, more='[sweep]\nseed = "0:2"\n'))
    arguments = ["sweep", "r.toml", "--workers", "2", "--epochs", "150", "--out", "out"]
    running = subprocess.Popen([*MAIN, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("out/trials/*/checkpoint/state.npz"))) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=100)
    assert running.returncode == 130 and "--out out --resume" in stderr, stderr
    assert [row["state"] for row in table(tmp_path / "out")] == ["begun", "begun"]
    refused = subprocess.run([*MAIN, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2 and "--resume" in refused.stderr
    again = subprocess.run([*MAIN, *arguments, "--resume", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["ok"] and [row["state"] for row in table(tmp_path / "out")] == ["done", "done"]
