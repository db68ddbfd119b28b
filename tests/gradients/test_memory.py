"""Compressed data are what the backward pass gets, and a training step takes less memory for it."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from benchmarks import gradient_memory
from hgq import gradients
from hgq.gradients import packing
from hgq.layers import with_gradients

NETWORKS = {
    "dense": lambda: [keras.layers.Dense(64, "relu") for _ in range(3)],
    "conv": lambda: [keras.layers.Conv2D(16, 3, padding="same", activation="relu") for _ in range(3)],
}
SHAPES = {"dense": (4096, 64), "conv": (256, 8, 8, 16)}


def crossing(model, shape) -> dict[str, int]:
    """Bytes of each tensor that grows with the batch and that the backward pass reads, though it was there before."""

    @tf.function(autograph=False)
    def step(x, g):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        return tape.gradient(y, [x, *(v.value for v in model.trainable_variables)], output_gradients=g)

    x = tf.TensorSpec(shape, tf.float32)
    graph = step.get_concrete_function(x, x).graph
    backward, found = {graph.inputs[1].op.name}, {}
    for operation in graph.get_operations():  # in the order in which they were made: what is read was made before
        if any(source.name in backward for source in [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]):
            backward.add(operation.name)
            for source in operation.inputs:
                if source.op.name not in backward and source.dtype.is_numpy_compatible and source.shape.num_elements() is not None:
                    found[source.name] = source.shape.num_elements() * source.dtype.size
    kernels = max(kernel.shape.num_elements() * 4 for kernel in model.trainable_variables)
    return {name: size for name, size in found.items() if size > kernels}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scheme", ["hlq", "hlq(rank=8, kept_bits=4)", "luq4_int8"])
def test_only_codes_cross_to_the_backward_pass(network, scheme):
    """As many bytes as the formula says, and a bit for each ReLU: in float32 every layer hands over its data, and its result to ReLU."""
    shape = SHAPES[network]
    model = keras.Sequential([keras.Input(shape[1:]), *NETWORKS[network]()])
    floats = 4 * tf.TensorShape(shape).num_elements()
    assert sum(crossing(model, shape).values()) >= 3 * floats
    copy = with_gradients(model, scheme)
    kept = gradients.get(scheme).residual_bytes(shape)
    assert sum(crossing(copy, shape).values()) == 3 * (kept + floats / 32)


@pytest.mark.parametrize("value", [0.0, 2.5, float("nan")])
def test_an_order_changes_no_value(value):
    first, then = tf.constant([0.0, value]), tf.constant([3, 4])
    for function in (packing.in_order, tf.function(packing.in_order), tf.function(packing.in_order, jit_compile=True)):
        found = function(first, then)
        tf.debugging.assert_equal(tf.math.is_nan(found[0]), tf.math.is_nan(first))
        tf.debugging.assert_equal(tf.where(tf.math.is_nan(first), 0.0, found[0]), tf.where(tf.math.is_nan(first), 0.0, first))
        tf.debugging.assert_equal(found[1], then)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_step_takes_less_memory(mode):
    """Resident memory at its highest: 16 layers keep 134 MB of float32, of which HLQ has a quarter, and a sixteenth at half the rank."""
    network = "dense"
    peaks = [next(iter(entry.values()))["megabytes"] for entry in gradient_memory.worker(network, mode, "none", "hlq")]
    assert peaks[1] < 0.85 * peaks[0]
