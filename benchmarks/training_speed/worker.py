"""One contender of the training benchmark, in a process of its own; imports nothing of hgqc unless it is hgqc that runs.

It answers one line of JSON on standard output for each line on standard input: ``first`` for what it took to build the network and run the
first step, then a number of steps for what those (``steps``, as the loop may take a few more) took. Times are of all threads together
(``cpu``) and of the clock (``wall``), in seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

SHAPES = {"mlp": (16,), "conv": (32, 32, 3)}


def main() -> int:
    contender, network, batch, granularity, threads = sys.argv[1:]
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = threads
    kind, mode = contender.split("/")
    os.environ["KERAS_BACKEND"] = "jax" if mode == "jax" else "tensorflow"
    if kind == "hgqc" and mode == "graph":
        os.environ["HGQ_NATIVE"] = "0"
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries talk
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(int(batch), *SHAPES[network])).astype(np.float32)
    y = rng.integers(0, 5 if network == "mlp" else 10, int(batch)).astype(np.int32)
    if kind == "hgqc":
        import hgq.layers
        import hgq.native  # what a user has imported, too, when building begins

        hgq.native.instructions()
    elif kind == "hgq2":
        import hgq.config
        import hgq.layers
    imported = spent()
    built: list[Callable[[int], int]] = []
    for line in sys.stdin:
        start = imported if line.strip() == "first" else spent()
        if line.strip() == "first":
            built.append(runner(kind, mode, network, granularity, x, y))
            done = built[0](1)
        else:
            done = built[0](int(line))
        end = spent()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"cpu": end[0] - start[0], "wall": end[1] - start[1], "peak_mb": peak, "steps": done}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def spent() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, time.perf_counter()


LOOPED = 16
"""Batches of the data that the loop of `hgq train` has on the device."""


def runner(kind: str, mode: str, network: str, granularity: str, x, y) -> Callable[[int], int]:
    """Trains for about so many steps; returns how many."""
    import keras

    model = MODELS[kind](network, granularity)
    optimizer = keras.optimizers.Adam(1e-3)
    if kind == "hgqc":
        from hgq.training.optimizers import BitAdam

        optimizer = BitAdam(1e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=mode in ("xla", "jax"))
    if mode == "loop":
        return looped(model, x, y)
    if mode == "jax":
        return fitted(lambda steps: model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0))
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    if kind != "hgqc" or mode != "native":
        return fitted(lambda steps: model.fit(data, steps_per_epoch=steps, verbose=0))
    from hgq import native

    def fit(steps: int) -> object:
        with native.in_graphs():
            return model.fit(data, steps_per_epoch=steps, verbose=0)

    return fitted(fit)


def fitted(fit: Callable[[int], object]) -> Callable[[int], int]:
    """`fit` for exactly so many steps."""

    def run(steps: int) -> int:
        fit(steps)
        return steps

    return run


def looped(model, x, y) -> Callable[[int], int]:
    """The loop of `hgq train`, which takes any Keras model: an epoch is one call."""
    import numpy as np

    from hgq.training.loop import Loop

    loop = Loop(model, np.tile(x, (LOOPED, *(1,) * (x.ndim - 1))), np.tile(y, LOOPED), batch_size=len(x), seed=1, jit_compile=False)

    def run(steps: int) -> int:
        epochs = max(1, round(steps / LOOPED))
        for epoch in range(epochs):
            loop.run_epoch(epoch)
        return epochs * LOOPED

    return run


# ---- networks --------------------------------------------------------------------------------------------------------------------------


def stack(network: str, dense: Callable, conv: Callable, pool_of: Callable | None = None):
    """The networks of the HGQ paper: the jet tagger, and the SVHN classifier."""
    import keras

    if network == "mlp":
        layers = [dense(64, "relu"), dense(32, "relu"), dense(32, "relu"), dense(5, None)]
    else:
        pool = pool_of or keras.layers.MaxPooling2D
        pooled = [part for filters in (16, 16, 24) for part in (conv(filters), pool(2))]
        layers = [*pooled, keras.layers.Flatten(), dense(42, "relu"), dense(64, "relu"), dense(10, None)]
    return keras.Sequential([keras.Input(SHAPES[network]), *layers])


def float_model(network: str, granularity: str):
    from keras.layers import Conv2D, Dense

    return stack(network, lambda units, activation: Dense(units, activation), lambda filters: Conv2D(filters, 3, activation="relu"))


def hgqc_model(network: str, granularity: str):
    from hgq.layers import QConv2D, QDense, QMaxPooling2D

    data = f"data(granularity={granularity})"
    return stack(
        network,
        lambda units, activation: QDense(units, activation, input_quantizer=data, beta=1e-6),
        lambda filters: QConv2D(filters, 3, activation="relu", input_quantizer=data, beta=1e-6),
        QMaxPooling2D,
    )


def hgq2_model(network: str, granularity: str):
    """With weights kbi, SAT_SYM, and data kif, WRAP, as here; only the first layer's input has a sign bit to find."""
    from hgq.config import LayerConfigScope, QuantizerConfigScope
    from hgq.layers import QConv2D, QDense

    axes = {"homogeneous_axis": (0,)} if granularity == "element" else {"heterogeneous_axis": (-1,), "homogeneous_axis": None}
    with (
        QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP", **axes),
        LayerConfigScope(enable_ebops=True, beta0=1e-6),
    ):
        return stack(
            network,
            lambda units, activation: QDense(units, activation=activation),
            lambda filters: QConv2D(filters, 3, activation="relu"),
        )


MODELS = {"float": float_model, "hgqc": hgqc_model, "hgq2": hgq2_model}

if __name__ == "__main__":
    raise SystemExit(main())
