"""docs/gradients.md tells what benchmarks/gradients.py measured."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest

from benchmarks.gradient_accuracy import page, plan, store

SEEN = store.read()
AGAIN = "run benchmarks/gradients.py, then benchmarks/gradients.py --render"


def test_the_page_is_what_was_measured():
    assert page.PAGE.read_text(encoding="utf-8") == page.render(SEEN), AGAIN


def test_the_store_is_written_as_the_benchmark_writes_it():
    assert store.PATH.read_text(encoding="utf-8") == store.text_of(SEEN)


def test_keys_say_what_was_run():
    runs = list(plan.runs())
    assert len({run.key for run in runs}) == len(runs)
    settings = {f"{run.task}/{run.method}": str(run.settings()) for run in runs}
    for task in {run.task for run in runs}:  # two methods that are the same would be a row that says nothing
        here = [text for key, text in settings.items() if key.startswith(f"{task}/")]
        assert len(set(here)) == len(here), task


def test_an_entry_of_other_settings_does_not_count():
    run = next(plan.runs())
    entry = {"accuracy": 0.5, "settings": run.settings()}
    assert run.key not in page.Measured({run.key: entry}).missing
    changed = {**entry, "settings": {**run.settings(), "method": {**run.settings()["method"], "rate": 2}}}
    assert run.key in page.Measured({run.key: changed}).missing


def test_differences_are_of_equal_seeds():
    target = plan.Target("", "mlp", "none", "luq4", at_most=1.0)
    accuracies = {"none": [0.95, 0.97, 0.96, 0.5], "luq4": [0.94, 0.965, 0.96]}
    entries = {
        f"mlp/{method}/{seed}": {"accuracy": value, "settings": plan.Run("mlp", method, seed).settings()}
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    }
    points, error = page.Measured(entries).difference(target)
    assert points == pytest.approx(fmean([1.0, 0.5, 0.0]))
    assert error == pytest.approx(stdev([1.0, 0.5, 0.0]) / math.sqrt(3))
    del entries["mlp/luq4/1"]
    assert page.Measured(entries).difference(target) is None


@pytest.mark.parametrize(
    ("limits", "difference", "holds"),
    [({"at_most": 1.1}, 1.1, True), ({"at_most": 1.1}, 1.2, False), ({"at_least": 10.0}, 10.0, True), ({"at_least": 10.0}, 9.9, False)],
)
def test_promises_are_judged_by_their_limits(limits, difference, holds):
    assert plan.Target("", "mlp", "none", "luq4", **limits).holds(difference) is holds


def test_what_seeds_cannot_tell_is_said():
    target = plan.Target("", "mlp", "none", "luq4", at_most=0.5)
    assert [target.verdict(0.57, error) for error in (0.19, 0.03)] == ["**missed**, within noise", "**missed**"]
    assert [target.verdict(0.4, error) for error in (0.06, 0.03)] == ["held, within noise", "held"]


def test_means_are_over_three_seeds_or_more():
    for (task, method), entries in page.Measured(SEEN).entries.items():
        assert len(entries) >= (1 if task == "jets" else 3), f"{task}/{method}: {AGAIN}"


def test_the_main_job_was_exact_in_every_run():
    runs = {key: entry for key, entry in SEEN.items() if key.startswith("jets/")}
    assert runs
    for key, entry in runs.items():
        assert {"keras", "rtl"} <= set(entry["checks"]), key
        assert all(wrong == 0 and samples > 10_000 for wrong, samples in entry["checks"].values()), key


def test_a_missed_budget_is_said():
    within = {
        "accuracy": 0.7,
        "ebops": 4900,
        "within": True,
        "checks": {"keras": [0, 9]},
        "settings": plan.Run("jets", "none", 0).settings(),
    }
    assert "missed" not in page.Measured({"jets/none/0": within}).jets()
    assert "budget missed" in page.Measured({"jets/none/0": {**within, "within": False}}).jets()


def test_what_was_not_measured_is_said():
    empty = page.Measured({})
    assert "`luq4`" in empty.to_do() and "mlp: `none`" in empty.to_do()
    assert empty.schemes(["none", "luq4"]).count("\n") == 1  # a head without rows


def test_the_store_keeps_what_others_wrote(tmp_path):
    path = tmp_path / "gradients.json"
    store.add("b", {"accuracy": 1}, path)
    store.add("a", {"accuracy": 0.5}, path)
    assert store.read(path) == {"a": {"accuracy": 0.5}, "b": {"accuracy": 1}}
    assert path.read_text().splitlines()[1].startswith('"a"')
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".tmp")] == []
