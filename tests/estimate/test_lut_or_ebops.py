"""docs/lut-or-ebops.md: its arithmetic by hand, and that it is what the store says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import lut_or_ebops
from benchmarks.lut_or_ebops_page import Front, gains, mean, page, ratios

AGAIN = "run benchmarks/lut_or_ebops.py --render"


def points(scale: float, shift: float = 0.0) -> list[dict]:
    """Accuracy ``0.1 log10(LUT)``, for `scale` times as many LUTs."""
    return [{"lut": scale * lut, "test": 0.1 * math.log10(lut) + shift} for lut in (100, 1000, 10000)]


@pytest.fixture
def store():
    worse = {"lut": 2000.0, "test": 0.2}  # beaten in both: must not count
    return {
        "lut/0": {"points": [*points(0.5), worse]},
        "ebops/0": {"points": points(1.0)},
        "lut/1": {"points": points(0.8)},
        "ebops/1": {"points": [*points(1.0), {"budget": 1, "test": 0.9}]},  # not synthesised yet
    }


def test_ratios_and_gains_by_hand(store):
    assert ratios(store, 0.25) == pytest.approx([0.5, 0.8])
    assert gains(store, 1000) == pytest.approx([-0.1 * math.log10(0.5), -0.1 * math.log10(0.8)])
    assert np.isnan(ratios(store, 0.45)).all() and np.isnan(gains(store, 60_000)).all(), "nothing beyond what was measured"
    del store["ebops/1"]
    assert ratios(store, 0.25) == pytest.approx([0.5])


def test_a_front_between_its_points():
    front = Front.of(points(1.0))
    assert front.lut(0.25) == pytest.approx(10**2.5)
    assert front.accuracy_of(10**2.5) == pytest.approx(0.25)
    assert mean([1.0, 2.0, float("nan"), 3.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))


def test_the_page_is_what_the_stores_say():
    stores = {name: lut_or_ebops.read(task.store) for name, task in lut_or_ebops.TASKS.items()}
    for name, store in stores.items():
        known = {
            lut_or_ebops.key_of(*run): lut_or_ebops.settings(*run, lut_or_ebops.TASKS[name])
            for run in lut_or_ebops.runs(lut_or_ebops.TASKS[name])
        }
        assert len(store) >= 6 and all(run["settings"] == known[key] for key, run in store.items()), AGAIN
        assert all("lut" in point for run in store.values() for point in run["points"]), AGAIN
    assert lut_or_ebops.PAGE.read_text(encoding="utf-8") == page(stores["jets"], stores["letter"]), AGAIN
