"""A budget in LUTs: charged, steered, measured by the estimate, and delivered."""

from __future__ import annotations

import csv

import keras
import pytest

from hgq.errors import ConfigError
from hgq.estimate import estimate
from hgq.ir import file as hgq_file
from hgq.training import train

pytest.importorskip("alkaid")


@pytest.fixture
def small(recipe):
    return recipe(
        budget={"lut": 300, "beta": 3e-4, "warmup": 0.1, "ramp": 0.4, "tolerance": 0.3},
        train={"epochs": 20, "bit_rate": 6.0, "learning_rate": 0.01, "batch_size": 64},
        model={"widths": [10]},
    )


def test_it_is_met_as_the_estimate_counts(small, tmp_path):
    result = train(small, tmp_path / "run", progress=False)
    point = result.point
    graph = hgq_file.load(tmp_path / "run" / "model.hgq")
    counted = estimate(graph, small.export.part, small.export.clock_ns, "rtl").counts.lut.value
    assert point.resource == "lut" and point.lut == round(counted) == point.spent
    assert point.within and 0.7 * 300 <= counted <= 300
    assert graph.meta["budget_lut"] == 300
    assert {layer.resource for layer in keras.saving.load_model(tmp_path / "run" / "model.keras").layers} == {"lut"}
    with (tmp_path / "run" / "history.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert all(float(row["lut"]) > 0 and float(row["ebops"]) > 0 and row["lut"] != row["ebops"] for row in rows)


@pytest.mark.parametrize("budget", [{"lut": 300, "ebops": 300}, {}])
def test_one_resource_at_a_time(recipe, budget):
    with pytest.raises(ConfigError, match="ebops or lut, one of them"):
        recipe(budget=budget)
