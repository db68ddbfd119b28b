"""The control law on simulated plants, among them one that dies; then the callback on a model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.training.budget import Budget, Controller


class Plant:
    """EBOPs relax toward ``20,000 * (beta / 1e-6) ** -slope`` with a time constant, and noise; below `cliff` it is dead, and stays so."""

    def __init__(self, start=80_000.0, slope=0.6, tau=15.0, noise=0.0, cliff=0.0, seed=0):
        self.log, self.slope, self.tau, self.noise, self.cliff = math.log(start), slope, tau, noise, cliff
        self.rng, self.top, self.dead = np.random.default_rng(seed), math.log(start), False

    def step(self, beta, speed=1.0):
        goal = min(self.top, math.log(20_000) - self.slope * math.log(beta / 1e-6))
        self.log += speed * (goal - self.log) / self.tau + self.noise * self.rng.normal()
        self.dead |= math.exp(self.log) < self.cliff
        return 0.0 if self.dead else math.exp(self.log)

    def equilibrium(self, ebops):
        return 1e-6 * (20_000 / ebops) ** (1 / self.slope)


def steer(plant, target, epochs=400, controller=None, ramp=60, speed=lambda epoch: 1.0, kept=None):
    controller = controller or Controller()
    ebops, trace, state = plant.step(controller.beta), [], plant.log
    start = ebops
    for epoch in range(epochs):
        left = max(0.0, 1 - epoch / ramp)
        setpoint = target * (start / target) ** left
        if controller.worth_keeping(ebops, setpoint):
            state = plant.log
        if controller.update(ebops, setpoint, speed(epoch)):
            plant.log, plant.dead = state, False
        ebops = plant.step(controller.beta, speed(epoch))
        trace.append(ebops)
    return np.array(trace), controller


@pytest.mark.parametrize("target", [40_000, 5_000, 300])
@pytest.mark.parametrize("tau", [2.0, 8.0, 20.0])
@pytest.mark.parametrize("slope", [0.6, 1.0, 1.5])
def test_reaches_the_target_whatever_the_plant(target, tau, slope):
    plant = Plant(tau=tau, slope=slope)
    trace, controller = steer(plant, target)
    np.testing.assert_allclose(trace[-50:], target, rtol=0.02)
    assert controller.beta == pytest.approx(plant.equilibrium(target), rel=0.2)


def test_noise_does_not_shake_it_loose():
    trace, _ = steer(Plant(noise=0.01, tau=10), 5_000, epochs=600)
    assert abs(np.log(trace[-200:] / 5_000).mean()) < 0.02 and np.abs(np.log(trace[-200:] / 5_000)).max() < 0.15


def test_does_not_wind_up_when_the_target_is_out_of_reach():
    plant = Plant(start=1_000, tau=10)
    _, controller = steer(plant, 50_000, epochs=500, ramp=1)
    assert controller.beta == controller.beta_range[0]
    trace, _ = steer(plant, 500, epochs=300, controller=controller, ramp=20)
    np.testing.assert_allclose(trace[-50:], 500, rtol=0.03)


def test_zero_is_a_number():
    controller = Controller(beta=1e-5)
    for _ in range(1000):
        controller.update(0.0, 1000.0)
    assert controller.beta == controller.beta_range[0]
    assert math.isfinite(controller.beta)


def test_beta_stays_in_its_range():
    controller = Controller(beta=1e-5, beta_range=(1e-6, 1e-4))
    for ebops in (1e9, 1e9, 1e9, 0.0, 0.0, 1e30):
        controller.update(ebops, 10.0)
        assert 1e-6 <= controller.beta <= 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_a_collapse_is_undone(seed):
    """Too much gain throws the plant over its cliff; what was kept brings it back, and smaller betas keep it there."""
    plant = Plant(cliff=2_500, noise=0.02, tau=4.0, seed=seed)
    controller = Controller(beta=3e-3, proportional=1.0)
    trace, controller = steer(plant, 5_000, epochs=500, controller=controller, ramp=10)
    assert (trace == 0).any() and controller.state()["_rescues"] >= 1
    assert abs(np.log(trace[-100:] / 5_000).mean()) < 0.05 and (trace[-100:] > 0).all()


def test_no_rescue_while_it_recovers_by_itself():
    controller = Controller(patience=3)
    assert controller.worth_keeping(1000, 1000)
    assert not any(controller.update(ebops, 1000) for ebops in (100, 120, 140, 170, 200, 250, 300, 400))


def test_slow_bits_are_not_chased():
    """While the learning rate falls, beta moves less: with the same gain it would be far beyond its equilibrium at the end."""

    def speed(epoch):
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / 100)))

    plant = Plant(tau=20, start=80_000)
    _, controller = steer(plant, 5_000, epochs=100, ramp=40, speed=speed)
    assert controller.beta < 4 * plant.equilibrium(5_000)


def test_state_round_trip():
    a, b = Controller(beta=1e-6), Controller(beta=1.0)
    for ebops in (500, 400, 10, 10, 10):
        a.worth_keeping(ebops, 300)
        a.update(ebops, 300)
    b.restore(a.state())
    assert a == b


def test_stages_and_setpoints():
    budget = Budget([2000, 500], epochs=10, tolerance=0.1, warmup=0.2, ramp=0.5)
    assert [(s.target, s.start, s.end, s.warmup, s.ramp) for s in budget.stages] == [(2000, 0, 10, 2, 5), (500, 10, 20, 0, 5)]
    budget._from = 1900 * 2.0**5
    setpoints = [budget.setpoint(epoch) for epoch in range(10)]
    assert setpoints[:2] == [None, None]
    np.testing.assert_allclose(setpoints[2:], 1900 * 2.0 ** np.array([4, 3, 2, 1, 0, 0, 0, 0]))
    assert [epoch for epoch in range(10) if budget.stage(epoch).settled(epoch)] == [7, 8, 9]
    budget.extend(0, 3)
    assert [(s.start, s.end) for s in budget.stages] == [(0, 13), (13, 23)]
    assert budget.stage(12).target == 2000 and budget.stage(99).target == 500


@pytest.mark.parametrize(
    "arguments",
    [{"ebops": 0}, {"ebops": []}, {"ebops": [1, 2]}, {"epochs": 0}, {"warmup": -1}, {"warmup": 0.5, "ramp": 0.5}, {"tolerance": 0}],
)
def test_nonsense_is_refused(arguments):
    with pytest.raises(ConfigError):
        Budget(**{"ebops": 100, "epochs": 10, **arguments})


@pytest.mark.parametrize(
    ("error", "expected"),
    [(0.0, 3), (0.01, 2)],
    ids=["exact", "estimated"],
)
def test_a_model_that_is_surely_in_the_band_beats_a_better_one_at_its_edge(error, expected):
    """Costs 0.94 to 1.01 of the target, and ever better models, but for the last: which epoch is delivered."""
    import keras

    from hgq.training.select import Select

    costs, metrics = [940.0, 980.0, 965.0, 955.0, 995.0, 1010.0, 975.0], [0.1, 0.2, 0.3, 0.5, 0.4, 0.9, 0.15]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    budget = Budget(1000, epochs=1, warmup=0, ramp=0, exact=lambda model: costs[0], error=error)
    select = Select(budget, "accuracy", True, lambda model: metrics[0])
    for callback in (budget, select):
        callback.set_model(model)
    for epoch in range(7):
        model.layers[0].bias.assign([float(epoch)])
        select.on_epoch_end(epoch, {"ebops": costs[0] / budget.ratio, "accuracy": metrics[0]})
        del costs[0], metrics[0]
    chosen = select.put_back()
    assert chosen is not None and chosen.epoch == expected == model.layers[0].bias.numpy()[0] and chosen.inside
    restored = Select(budget, "accuracy", True, lambda model: 0.0)
    restored.restore(*select.state())
    assert restored.chosen == select.chosen


def test_in_fit_and_rescue():
    """In `fit`, on a model, with `Select`: lands. Then everything dies at once, and is put back."""
    import keras

    from hgq.layers import QDense, qlayers, total_ebops
    from hgq.training.select import Select

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), QDense(8, activation="relu"), QDense(3)])
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 256)
    x = (rng.normal(0, 1, (3, 4))[y] + rng.normal(size=(256, 4))).astype(np.float32)
    budget = Budget(700, epochs=60, tolerance=0.1, beta=1e-5, warmup=0.1, ramp=0.3, exact=total_ebops)
    select = Select(budget, "accuracy", True, lambda model: model.evaluate(x, y, verbose=0)[1])
    history = model.fit(x, y, batch_size=64, epochs=60, verbose=0, callbacks=[budget, select])
    assert {"ebops", "beta", "setpoint"} <= set(history.history)
    assert history.history["ebops"][0] > 2000 and abs(np.median(history.history["ebops"][-30:]) / 665 - 1) < 0.3
    chosen = select.put_back()
    assert chosen is not None and chosen.inside and 630 <= chosen.ebops <= 700 and chosen.epoch >= 24
    assert total_ebops(model) == chosen.ebops and select.put_back(1) is None

    alive = total_ebops(model)
    budget.controller._kept_beta = budget.controller.beta
    budget._kept = budget._snapshot()
    for layer in qlayers(model):
        layer.kernel_quantizer._b.assign(layer.kernel_quantizer._b * 0)
        layer.bias_quantizer._f.assign(layer.bias_quantizer._f * 0 - 24)
        layer.bias.assign(layer.bias * 0)
    assert total_ebops(model) == 0
    beta = budget.controller.beta
    for epoch in range(60, 60 + budget.controller.patience + 2):
        budget.on_epoch_end(epoch, {})
    assert total_ebops(model) == alive and budget.controller.beta < beta
