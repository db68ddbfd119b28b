"""Jet tagging to a budget of EBOPs in plain Python: what `hgq train` does for one budget, spelled out.

python examples/jets.py [epochs] [ebops] [output directory]
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras

from hgq import datasets
from hgq.backend import Options
from hgq.calibrate import calibrate
from hgq.estimate import ebops_of, estimate
from hgq.freeze import freeze
from hgq.ir import file as hgq_file
from hgq.layers import QDense
from hgq.plugins import backend
from hgq.reference import KerasReference
from hgq.training import BitAdam, Budget, ParetoFront, Progress, Select
from hgq.verify import verify

PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0


def network(inputs: int, outputs: int) -> keras.Model:
    """Every weight and every activation starts with a few bits of its own, and learns how many it needs."""
    bits = {"kernel_quantizer": "weight(b0=4, adapt_to_magnitude=True, i_bounds=(-4, 8))", "input_quantizer": "data(i0=2, f0=3)"}
    hidden = [QDense(units, activation="relu", **bits) for units in (64, 32, 32)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, QDense(outputs, **bits)], name="jets")


def main(epochs: int = 120, ebops: float = 5000, out: str = "runs/jets_py", samples: int = 10_000) -> bool:
    """Train, freeze, verify, estimate, export; returns whether the budget was met and nothing differs."""
    keras.utils.set_random_seed(1)
    data = datasets.load("jsc_sim")
    model = network(data.x_train.shape[1], data.outputs)
    steps = epochs * (len(data.x_train) // 1024 + 1)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.05)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(BitAdam(rate, bit_rate=8.0), loss, metrics=["accuracy"], jit_compile=True)

    # The controller aims at the EBOPs of the firmware: of calibrated ranges, and without the neurons that freezing removes.
    budget = Budget(ebops, epochs, exact=lambda model: ebops_of(freeze(model, data.x_train)))
    accuracy = lambda model: model.evaluate(data.x_val, data.y_val, batch_size=4096, verbose=0)[1]  # noqa: E731
    best = Select(budget, "val_accuracy", True, accuracy)
    front = ParetoFront(Path(out) / "pareto", start_epoch=epochs // 5, spacing=0.1)
    validation = (data.x_val, data.y_val)
    callbacks = [budget, best, front, Progress()]
    model.fit(
        data.x_train, data.y_train, 1024, epochs, verbose=0, validation_data=validation, validation_batch_size=4096, callbacks=callbacks
    )

    chosen = best.put_back()
    met = chosen is not None and chosen.inside
    calibrate(model, data.x_train)
    graph = freeze(model)
    hgq_file.save(graph, Path(out) / "model.hgq", force=True)
    test = model.evaluate(data.x_test, data.y_test, batch_size=4096, verbose=0)[1]
    print(f"test accuracy {100 * test:.2f} %, {ebops_of(graph)} EBOPs of {ebops:g} asked for: {'met' if met else 'MISSED'}")

    verdict = verify(graph, data.x_test, reference=KerasReference(model), samples=samples)
    for row in verdict.rows():
        print(f"  {row['representation']:<8} {row['result']}")
    cost = estimate(graph, PART, CLOCK_NS, "rtl")
    print(f"about {cost.counts.lut.value:.0f} LUT, {cost.timing.cycles.value:.0f} cycles, {cost.timing.ns.value:.0f} ns")
    print("RTL in", backend("rtl").emit(graph, Options(part=PART, clock_ns=CLOCK_NS)).write(Path(out) / "rtl", force=True))
    return met and verdict.ok


if __name__ == "__main__":
    arguments = [convert(text) for convert, text in zip((int, float, str), sys.argv[1:], strict=False)]
    sys.exit(0 if main(*arguments) else 1)
