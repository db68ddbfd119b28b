"""A latency that training keeps, and what is refused before it."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from hgq.config import Recipe
from hgq.errors import BudgetError
from hgq.estimate import device_of, estimate
from hgq.estimate.plan import floor_ns, remembered
from hgq.ir import file as hgq_file
from hgq.layers import QConv1D, QDense
from hgq.training import run, train
from hgq.training.shallow import Sums, depth_for
from tests.signed_digits import recoded

pytest.importorskip("alkaid")


@pytest.mark.parametrize("layer", [QDense(7), QConv1D(6, 3, groups=2)])
def test_capped_sums(layer):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((12,) if isinstance(layer, QDense) else (8, 4)), layer])
    layer.kernel.assign(np.random.default_rng(0).normal(0, 1, layer.kernel.shape))
    sums = Sums(layer)

    def quantized():
        return layer.kernel_quantizer(layer.constants()[0], training=False).numpy()

    def terms():
        kernel = quantized()
        return np.vectorize(recoded)((kernel * 2**20).astype(np.int64)).reshape(-1, kernel.shape[-1]).sum(0)

    before, kernel = terms(), layer.kernel.numpy()
    assert sums.longest() == before.max()
    cap = int(np.median(before)) - 1
    pruned = sums.cap(cap)
    after, now = terms(), layer.kernel.numpy()
    assert pruned == np.count_nonzero(now != kernel) > 0 and np.count_nonzero(now[now != kernel]) == 0
    assert (after <= cap).all() and (after[before <= cap] == before[before <= cap]).all()
    flat, kept = (part.reshape(-1, part.shape[-1]) for part in (kernel, now))
    for output in range(flat.shape[1]):  # none that went is larger than one that stayed
        gone = kept[:, output] != flat[:, output]
        if gone.any():
            assert np.abs(flat[gone, output]).max() <= np.abs(flat[~gone, output]).max()
            smallest_kept = np.sort(np.abs(flat[~gone, output]))
            assert np.abs(flat[gone, output]).max() <= smallest_kept[smallest_kept > 2**-7][0] + 2**-6
    sums.cap(1)
    assert (np.count_nonzero(quantized().reshape(-1, flat.shape[1]), axis=0) == 1).all()

    # Training leaves them at 0, in a compiled step too.
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=isinstance(layer, QDense))
    x = np.random.default_rng(1).normal(size=(32, *model.input_shape[1:])).astype(np.float32)
    alive = layer.kernel.numpy() != 0
    model.fit(x, np.ones((32, *model.output_shape[1:])), verbose=0)
    assert (layer.kernel.numpy()[~alive] == 0).all() and not np.array_equal(layer.kernel.numpy(), now)


def test_depth_for_is_the_inverse_of_the_period_model():
    device = device_of("xcvu13p")
    family = device.family
    for wanted in (6.0, 12.0, 30.0):
        depth = depth_for(device, 50.0, 5.0, wanted)

        def ns(stages, depth=depth):
            return (stages + 1) * max(
                family.period_floor_ns, family.period_base_ns + family.period_per_unit_ns * max(depth / stages, 1), 0.73 * np.log(50) - 5.05
            )

        reaching = [ns(n) for n in range(1, 40) if ns(n) / (n + 1) <= 5.0]
        assert min(reaching) == pytest.approx(wanted, rel=1e-3)
    assert depth_for(device, 50.0, 5.0, 3.0) == 0.0  # less than the floor


@pytest.fixture(scope="module")
def changes():
    return {
        "model": {"widths": [10]},
        "train": {"epochs": 8, "batch_size": 64, "bit_rate": 6.0, "learning_rate": 0.01},
        "export": {"backends": ["rtl"], "part": "xcvu13p"},
    }


def test_a_run_is_within_its_latency(recipe, changes, tmp_path):
    wanted = 11.0
    asked = recipe(**{**changes, "export": {**changes["export"], "latency_ns": wanted}})
    first = run.Run(asked, tmp_path / "before", False, [])
    before = first.firmware.fastest(first.model)[0]
    assert before is not None and before.ns > 1.1 * wanted  # it takes some doing
    point = train(asked, tmp_path / "run", progress=False).point
    graph = hgq_file.load(tmp_path / "run" / "model.hgq")
    kept = remembered(graph)
    assert point.within and kept is not None and kept.wanted_ns == wanted
    counted = estimate(graph, kept.part, kept.clock_ns, "rtl", kept.options).timing
    assert counted.ns.value <= wanted and counted.cycles.value == point.latency_cycles
    assert point.latency_ns == pytest.approx(counted.ns.value, abs=1e-3) and point.clock_ns == kept.clock_ns <= 5.0
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert "latency_ns" in rows[0].split(",")


def train_epochs(one: run.Run, number: int) -> None:
    asked = one.epochs()
    epoch = next(asked)
    for _ in range(number):
        epoch = asked.send(one.one_epoch(epoch))
    asked.close()


@pytest.mark.slow
def test_both_budgets(recipe, changes, tmp_path):
    """LUTs and nanoseconds at once; the run goes on after its checkpoint with the same pruned weights."""
    budget = {"lut": 250, "tolerance": 0.3, "beta": 3e-4}
    asked = recipe(**{**changes, "budget": budget, "export": {**changes["export"], "latency_ns": 12.0}})
    first = run.Run(asked, tmp_path / "a", False, [])
    first.save_seconds = 0
    train_epochs(first, 4)
    second = run.Run(asked, tmp_path / "a", False, [])
    second.restore()
    second.save_seconds = math.inf
    for one in (first, second):
        train_epochs(one, 1)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(first.model.variables, second.model.variables, strict=True))
    masks = [[sums.mask.numpy() for sums in one.shallow.sums] for one in (first, second)]
    assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))
    first.train()
    point = first.deliver().point
    assert point.latency_ns is not None and point.latency_ns <= 12.0
    assert point.within == (0.7 * 250 <= (point.lut or 0) <= 250)


def layers(low):
    fixed = {
        "kernel_quantizer": f"weight(b0=4, adapt_to_magnitude=True, b_bounds=({low}, 8))",
        "input_quantizer": f"kif(i0=2, f0=3, f_bounds=({low}, 6))",
    }
    return [{"type": "QDense", "units": units, "use_bias": False, **fixed} for units in (5, 3)]


@pytest.mark.parametrize("resource", ["ebops", "lut"])
def test_a_budget_below_the_fewest_bits_is_refused(recipe, changes, tmp_path, resource):
    content = {**changes, "layers": layers(3), "budget": {resource: 40}}
    content.pop("model")
    with pytest.raises(BudgetError, match="every bitwidth at its lowest") as error:
        train(recipe(**content), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    least = float(str(error.value).split("at least ")[1].split()[0].replace(",", ""))
    # Every weight that is not rounded to 0 has at least one bit, its data 3 and a sign or an integer bit at least.
    assert least > 40
    if resource == "ebops":
        assert 4 * 5 + 5 * 3 < least < (4 * 5 + 5 * 3) * 4 * 9


@pytest.mark.slow
def test_with_free_bits_every_budget_may_be_tried(recipe, changes, tmp_path):
    result = train(recipe(**{**changes, "budget": {"ebops": 3}, "train": {"epochs": 1}}), tmp_path / "run", progress=False)
    assert result.point.budget == 3


@pytest.mark.parametrize(
    ("export", "says"),
    [
        ({"clock_ns": 1.0}, "No design on this part reaches that clock"),
        ({"latency_ns": 3.0}, "two registers, and one addition between them"),
        ({"latency_ns": 4.0}, "single weight for each of its outputs"),
    ],
)
def test_timing_that_nothing_has_is_refused(recipe, changes, tmp_path, export, says):
    with pytest.raises(BudgetError, match=says) as error:
        train(recipe(**{**changes, "export": {**changes["export"], **export}}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    family = device_of("xcvu13p").family
    least = float(str(error.value).split("at least ")[1].split()[0])
    if "clock_ns" in export:
        assert least == family.period_floor_ns
    elif "latency_ns" in export:
        assert least >= round(floor_ns("xcvu13p"), 2)


def test_a_recipe_keeps_its_latency():
    asked = Recipe.from_dict({"export": {"latency_ns": 25.5}})
    assert Recipe.from_text(asked.to_toml()).export.latency_ns == 25.5
    assert not any("latency_ns" in line for line in Recipe.from_dict({}).to_toml().splitlines())
