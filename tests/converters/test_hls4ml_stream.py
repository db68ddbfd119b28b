"""hls4ml's io_stream: one pixel after the other. C simulation ≡ golden model, and what streams refuse."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml.lower import lower
from hgq.converters.hls4ml.settings import Settings

from hgq.errors import LoweringError
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from tests.converters.test_hls4ml import assert_exact, dense, needs_compiler, workdir  # noqa: F401

STREAM = Settings(io_type="io_stream")
BOTH = pytest.mark.parametrize("io_type", ["io_stream", "io_parallel"])
CHANNEL = "data(granularity=channel)"


def per_channel(rng: np.random.Generator, shape: tuple[int, ...], k: int | None = None) -> Fixed:
    channels = shape[-1]
    sign = rng.integers(0, 2, channels) if k is None else np.full(channels, k)
    return Fixed(*(np.broadcast_to(part, shape) for part in (sign, rng.integers(1, 4, channels), rng.integers(0, 3, channels))))


def network(*layers, shape) -> Graph:
    """A Keras model, frozen: bits scattered between channels, so that nothing is at its initial value."""
    import keras

    from hgq.freeze import freeze
    from hgq.layers import quantizers

    keras.utils.set_random_seed(3)
    inputs = keras.Input(shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(4)
    for quantizer in quantizers(model):
        for v in quantizer.trainable_variables:
            if v.name in ("b", "f"):
                v.assign(v.numpy() - 2 + rng.integers(-1, 2, v.shape))
    return freeze(model, rng.normal(size=(64, *shape)).astype(np.float32))


@needs_compiler
@pytest.mark.slow
@BOTH
def test_csim_lenet(io_type, workdir):  # noqa: F811
    from keras.layers import Flatten

    from hgq.layers import QConv2D, QDense, QMaxPooling2D

    graph = network(
        QConv2D(4, 5, padding="same", activation="relu", input_quantizer=CHANNEL),
        QMaxPooling2D(2, quantizer=CHANNEL),
        QConv2D(6, 5, activation="relu", input_quantizer=CHANNEL),
        QMaxPooling2D(2),
        Flatten(),
        QDense(16, activation="relu"),
        QDense(10),
        shape=(28, 28, 1),
    )
    assert_exact(graph, workdir, 60, io_type=io_type)


@needs_compiler
@pytest.mark.slow
@BOTH
def test_csim_dense(io_type, workdir):  # noqa: F811
    from hgq.layers import QDense, QInput

    graph = network(QInput(), QDense(12, activation="relu"), QDense(8, activation="hard_tanh"), QDense(5), shape=(16,))
    assert_exact(graph, workdir, 500, io_type=io_type)


class residual:
    """Two convolutions and what goes around them."""

    def __init__(self, filters: int) -> None:
        from hgq.layers import QAdd, QConv2D

        self.convs = [QConv2D(filters, 3, padding="same", activation=a, input_quantizer=CHANNEL) for a in ("relu", None)]
        self.add = QAdd(input_quantizers=CHANNEL)

    def __call__(self, x):
        return self.add([self.convs[1](self.convs[0](x)), x])


@needs_compiler
@pytest.mark.slow
@BOTH
def test_csim_resnet(io_type, workdir):  # noqa: F811
    from hgq.layers import QAveragePooling2D, QConv2D, QDense, QGlobalAveragePooling2D

    graph = network(
        QConv2D(4, 3, padding="same", activation="relu", input_quantizer=CHANNEL),
        residual(4),
        QAveragePooling2D(2, quantizer=CHANNEL),
        QConv2D(6, 3, strides=2, input_quantizer=CHANNEL),
        residual(6),
        QGlobalAveragePooling2D(quantizer=CHANNEL),
        QDense(4),
        shape=(10, 10, 2),
    )
    assert_exact(graph, workdir, 60, io_type=io_type)


def zoo() -> Graph:
    """Every op that a stream takes."""
    rng = np.random.default_rng(2)
    b = GraphBuilder("zoo")

    def image(name, k=None, shape=(4, 6, 3)):
        return b.input(name, per_channel(rng, shape, k), "RND", "SAT")

    x, y, z, row, flat = image("x"), image("y", 0), image("z"), image("row", shape=(8, 2)), image("flat", shape=(5,))
    merged = [b.op(op, x, y) for op in ("add", "subtract", "maximum", "minimum", "product")]
    windows = [
        b.op("max_pool", image("w0", 0), pool=(2, 2), strides=(2, 2), padding=((1, 1), (0, 0))),
        b.op("max_pool", image("w1"), pool=(2, 3), strides=(2, 3), padding=((0, 0),) * 2),
        b.op("sum_pool", image("w2"), pool=(2, 2), strides=(1, 2), padding=((1, 0), (0, 1))),
        b.op("max_pool", image("w3", 1), pool=(2, 2), strides=(2, 2), padding=((1, 1), (0, 0))),
        b.op("max_pool", row, pool=(3,), strides=(2,), padding=((0, 0),)),
    ]
    reduced = [b.op(op, z, axes=axes) for op in ("reduce_sum", "reduce_max", "reduce_min") for axes in ((0, 1), (2,))]
    u, v = image("u"), image("v")
    moved = [
        b.op("reshape", u, shape=(8, 9)),
        b.op("reshape", row, shape=(16,)),
        b.op("transpose", u, axes=(2, 0, 1)),
        b.op("take", row, axis=0, indices=(3, 1, 1)),
        b.op("take", u, axis=1, indices=(0, 0, 1, 1, 2, 2)),
        b.op("pad", u, widths=((1, 0), (0, 2), (0, 0))),
        b.op("pad", flat, widths=((1, 2),)),
        b.op("concatenate", u, v, axis=2),
        b.op("concatenate", u, v, axis=0),
        b.op("concatenate", flat, flat, axis=0),
    ]
    four = [b.input(f"four{number}", Fixed(1, 1, np.full((2, 2, size, 2), number)), "RND", "SAT") for number, size in enumerate((1, 3))]
    pixel, column, line = image("pixel", shape=(1, 1, 3)), image("column", shape=(4, 6, 1)), image("line", shape=(1, 6, 3))
    shaped = [
        b.op("concatenate", *four, axis=2),
        b.op("product", pixel, column),
        b.op("subtract", x, pixel),
        b.op("maximum", line, column),
        b.op("add", pixel, b.constant(np.arange(24).reshape(4, 6, 1), Fixed(0, 3, 2), "more")),
        b.op("multiply", column, b.constant(np.array([1, 1, 1]), Fixed(0, 1, 0), "ones")),
        b.op("take", line, axis=2, indices=(2, 0)),
        b.op("leaky_relu", line, slope=1.0),
        b.op("leaky_relu", line, slope=0.0),
    ]
    s = image("s")
    wide = b.quantize(b.op("reshape", s, shape=(72,)), Fixed(0, 2, np.arange(72) % 3), "RND", "SAT", "wide")
    logic = [
        b.op("clip", s, low=-1.0, high=1.5),
        b.op("leaky_relu", row, slope=0.25),
        b.op("relu", s),
        b.op("multiply", s, b.constant(np.array([3, -1, 2]), Fixed(1, 3, 1), "scale")),
        b.op("add", flat, b.constant(np.array([3, -1, 2, 0, 1]), Fixed(1, 3, 1), "shift")),
    ]
    return b.graph(*merged, *windows, *reduced, *moved, *shaped, *logic, dense(b, s, 2), dense(b, row, 2), dense(b, wide, 2))


@needs_compiler
@pytest.mark.slow
@BOTH
def test_csim_of_every_op(io_type, workdir):  # noqa: F811
    assert_exact(zoo(), workdir, 200, io_type=io_type)


def test_a_quantizer_of_single_pixels_is_refused():
    b = GraphBuilder("pixels")
    x = b.input("x", Fixed(1, 3, np.full((2, 2, 1), 3)), "RND", "SAT")
    y = b.quantize(x, Fixed(1, 2, np.arange(4).reshape(2, 2, 1)), "RND", "SAT")
    with pytest.raises(LoweringError, match=r"one circuit casts all pixels[\s\S]*3 of 4 elements[\s\S]*granularity=\"channel\""):
        lower(b.graph(y), STREAM)


def test_formats_that_passes_have_narrowed_are_widened_again():
    b = GraphBuilder("border")
    x = b.input("x", Fixed(1, [[1], [3], [0]], [[1], [3], [2]]), "RND", "SAT")
    y = b.quantize(x, Fixed(1, [[1], [3], [0]], [[1], [2], [2]]), "RND", "SAT")  # the second pixel is rounded, the others are as they were
    (layer,) = [layer for layer in lower(b.graph(y), STREAM).layers if layer["class_name"] == "HGQFunction"]
    assert "ap_fixed<6, 4, AP_RND, AP_SAT>(inp[0])" in layer["hgq_function"]


def test_overlapping_maxima_are_refused():
    b = GraphBuilder("pool")
    x = b.input("x", Fixed(1, 2, np.zeros((4, 4, 1))), "RND", "SAT")
    y = b.op("max_pool", x, pool=(2, 2), strides=(1, 1), padding=((0, 0),) * 2)
    with pytest.raises(LoweringError, match=r"windows do not overlap[\s\S]*strides=\(2, 2\)"):
        lower(b.graph(y), STREAM)
