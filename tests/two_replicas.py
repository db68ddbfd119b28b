"""A program of test_replicas.py: trains on one device, and again by two replicas, and prints what came of it as JSON.

    two_replicas.py fit FILE.keras      by `fit`; writes the file
    two_replicas.py run DATA.npz OUT    by `hgq.training.train`; run directories in OUT

A process of its own, because a CPU can be cut into several logical devices only before TensorFlow begins.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)

sys.path.insert(0, str(Path(__file__).parents[1]))

from hgq import native  # noqa: E402
from hgq.config import Recipe  # noqa: E402
from hgq.errors import ConfigError  # noqa: E402
from hgq.layers import QGRU, QBatchNormalization, QConcatenate, QConv2D, QDense, QMaxPooling2D  # noqa: E402
from hgq.quantizers import FixedQuantizer  # noqa: E402
from hgq.training import train  # noqa: E402
from hgq.training.devices import strategy_of  # noqa: E402
from hgq.training.optimizers import BitSGD  # noqa: E402
from hgq.training.step import with_step  # noqa: E402
from tests.blobs import recipe  # noqa: E402

STRATEGY = strategy_of("all", batch_size=16, jit_compile=False)


def model() -> keras.Model:
    """What can tell replicas apart: ranges, moving averages and moments, memories of gradients, losses of layers and of quantizers."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = QConv2D(3, 3, activation="relu", beta=1e-4, input_quantizer="data(l1=0.01)", name="conv")(inputs)
    x = keras.layers.Flatten()(QMaxPooling2D(2, name="pool")(QBatchNormalization(name="norm")(x)))
    one = QDense(5, "relu", beta=1e-4, input_quantizer="sawb4", gradients="luq4(scale='hindsight', unbiased_rounding=False)", name="dense")(
        x
    )
    two = QGRU(3, beta=1e-4, name="gru")(keras.layers.Reshape((4, 3))(x))
    return keras.Model(inputs, QDense(4, beta=1e-4, name="out")(QConcatenate(name="join")([one, two])))


def data() -> tuple[np.ndarray, np.ndarray]:
    """Shares of a batch that differ: the second half of each has twice the range of the first."""
    rng = np.random.default_rng(2)
    scale = np.tile(np.repeat([1.0, 2.5], 8), 3)[:, None, None, None]
    return (scale * rng.normal(size=(48, 6, 6, 2))).astype(np.float32), rng.integers(0, 4, 48)


def trained(replicas: bool, path: str | None = None) -> dict[str, object]:
    """Three steps of `fit`; the variables' copies, by path."""
    with STRATEGY.scope() if replicas else contextlib.nullcontext():
        net = model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile(BitSGD(0.05, bit_rate=4.0), loss, metrics=["accuracy"], jit_compile=False)
    before = {variable.path: np.asarray(variable).tolist() for variable in net.variables}
    with native.in_graphs():
        history = net.fit(*data(), batch_size=16, shuffle=False, verbose=0).history
    copies = {
        variable.path: [np.asarray(one).tolist() for one in (variable.value.values if replicas else [variable])]
        for variable in net.variables
    }
    result: dict[str, object] = {"before": before, "copies": copies, "history": history}
    if path:
        net.save(path)
        result["outputs"] = net(data()[0], training=False).numpy().tolist()
        result["loaded"] = keras.models.load_model(path, compile=False)(data()[0], training=False).numpy().tolist()
    return result


def rounded_at_random() -> dict[str, object]:
    """What both replicas make of the same halves by stochastic rounding, how often they drew, and the ops of the graph."""
    with STRATEGY.scope():
        quantizer = FixedQuantizer.for_data(rounding="S_RND", f0=0, granularity="tensor", seed=3)
        quantizer.build((None, 64))
        plain = FixedQuantizer.for_data()
        plain.build((None, 64))

    @tf.function
    def both():
        return STRATEGY.run(lambda: (quantizer(tf.fill((1, 64), 0.5), training=True), plain(tf.ones((1, 64)), training=True)))

    with native.in_graphs():
        drawn = both()[0].values
        ops = {node.op for node in both.get_concrete_function().graph.as_graph_def().node}
    return {
        "drawn": [one.numpy().tolist() for one in drawn],
        "draws": [int(one) for one in quantizer._draws.value.values],
        "ops": sorted(ops),
    }


def refused() -> list[str]:
    """What is said of a method that owns the step, of XLA, and of a batch that is uneven."""

    def said(what: Callable[[], object]) -> str:
        try:
            what()
        except ConfigError as error:
            return str(error)
        return ""

    with STRATEGY.scope():
        net = with_step(keras.Sequential([keras.Input((2,)), QDense(1)]), "zigzag")
    return [
        said(lambda: net.compile("sgd", "mse")),
        said(lambda: strategy_of(2, batch_size=16, jit_compile=True)),
        said(lambda: strategy_of(2, batch_size=15, jit_compile=False)),
    ]


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C after the second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def run(blobs: str, out: str) -> None:
    """Runs by one device, by two, and by two with an interrupt."""
    alone = Recipe.from_text(recipe(blobs, epochs=4))
    asked = alone.changed(train={"devices": 2})
    train(alone, f"{out}/one", progress=False)
    train(asked, f"{out}/two", progress=False)
    asked = asked.changed(train={"gradients": "luq4"})  # draws random numbers, each replica its own
    train(asked, f"{out}/whole", progress=False)
    with contextlib.suppress(KeyboardInterrupt):
        train(asked, f"{out}/interrupted", progress=False, callbacks=[Interrupt()])
    train(asked, f"{out}/interrupted", progress=False, resume=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        found = {"one": trained(False), "two": trained(True, sys.argv[2]), "random": rounded_at_random(), "refused": refused()}
        print(json.dumps({**found, "native": native.instructions() is not None}))
