"""Pooling and reductions, ours and Keras' own: the function of the stock layer, and the same numbers in golden model, passes and RTL.

What each option computes and costs is checked by the rows of `tests/rows/pooling.py`.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import ConfigError, FreezeError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QGlobalAveragePooling2D,
    QGlobalMaxPooling1D,
    QInput,
    QMax,
    QMaxPooling1D,
    QMaxPooling2D,
    QMean,
    QMin,
    QSum,
    total_ebops,
)
from hgq.passes import optimize
from tests.check_layer import catalogue

RNG = np.random.default_rng(8)
SAT = "kif(i0=2, f0=2, overflow=SAT)"
K = keras.layers
STOCK = {
    "max_1d": (K.MaxPooling1D(2), (6, 2)),
    "max_2d": (K.MaxPooling2D((2, 3), 1, "same"), (4, 4, 2)),
    "max_3d": (K.MaxPooling3D(2), (2, 4, 2, 1)),
    "global_max_1d": (K.GlobalMaxPooling1D(), (5, 3)),
    "global_max_2d": (K.GlobalMaxPooling2D(keepdims=True), (3, 4, 2)),
    "global_max_3d": (K.GlobalMaxPooling3D(), (3, 2, 2, 2)),
    "average_1d": (K.AveragePooling1D(2, 1, "same"), (6, 2)),
    "average_2d": (K.AveragePooling2D((2, 4), 2), (4, 5, 2)),
    "average_3d": (K.AveragePooling3D(2), (2, 4, 2, 1)),
    "global_average_1d": (K.GlobalAveragePooling1D(keepdims=True), (8, 3)),
    "global_average_2d": (K.GlobalAveragePooling2D(), (4, 2, 2)),
    "global_average_3d": (K.GlobalAveragePooling3D(), (1, 2, 2, 2)),
    "ours_unquantized": (QMaxPooling2D((3, 2), (1, 2), "same"), (4, 5, 2)),
    "ours_global_unquantized": (QGlobalMaxPooling1D(), (4, 2)),
}


@pytest.mark.parametrize("name", STOCK)
def test_keras_own_equal_golden_equal_rtl(name):
    layer, shape = STOCK[name]
    model = keras.Sequential([keras.Input(shape), QInput(SAT), layer])
    x = RNG.normal(0, 2, (200, *shape)).astype(np.float32)
    graph = freeze(model, x[:50], optimize=False)
    (golden,) = run(graph, x).values()
    np.testing.assert_array_equal(golden, model.predict(x, verbose=0))
    assert np.unique(golden).size > 1
    (optimized,) = run(optimize(graph), x).values()
    np.testing.assert_array_equal(optimized, golden)
    (rtl,) = plugins.backend("rtl").comb_predict(graph, {graph.inputs[0].name: x}).values()
    np.testing.assert_array_equal(rtl, golden)
    assert total_ebops(model) == 0 < ebops_of(graph)  # in training nobody knows the bits


ROWS = [name for name in catalogue() if "Pooling" in name and name.startswith("Q")]


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in ROWS for option in catalogue()[name]])
def test_ours_are_those_of_keras(name, option):
    model, layer = catalogue()[name][option].model()
    assert type(layer).__name__ == name
    config = layer.get_config()
    twin = getattr(K, name[1:])(**{key: config[key] for key in ("pool_size", "strides", "padding", "keepdims") if key in config})
    x = RNG.normal(size=(5, *layer.input.shape[1:])).astype(np.float32)
    y, own = twin(layer.quantizer(x)).numpy(), layer(x).numpy()
    if "Max" in name:
        np.testing.assert_array_equal(own, y)
    else:  # 1/n is quantized, to as few as 5 bits
        np.testing.assert_allclose(own, y, rtol=2.0**-4, atol=1e-6)
    assert model.output_shape == (None, *y.shape[1:])


@pytest.mark.parametrize("axes", [-1, 1, (1, 2), (3, -3), [3]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_those_of_numpy(axes, keepdims):
    x = RNG.integers(-8, 8, (4, 3, 2, 4)).astype(np.float32) / 2
    along = axes if isinstance(axes, int) else tuple(axes)
    for layer, expected in [
        (QSum(axes, keepdims, 0.5, quantizer=SAT), 0.5 * x.sum(along, keepdims=keepdims)),
        (QMax(axes, keepdims, quantizer=None), x.max(along, keepdims=keepdims)),
        (QMin(axes, keepdims, quantizer=None), x.min(along, keepdims=keepdims)),
    ]:
        np.testing.assert_array_equal(layer(x).numpy(), expected)
        assert layer.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(QMean(axes, keepdims, quantizer=SAT)(x).numpy(), x.mean(along, keepdims=keepdims), rtol=2.0**-8)


def test_the_precision_of_a_share_is_trained_and_stated():
    layer = QAveragePooling1D(3, scale_quantizer="weight(b0=3, overflow=WRAP)", quantizer=SAT)
    layer.build((None, 6, 1))
    assert [v.path.split("/")[-2:] for v in layer.trainable_variables if "scale" in v.path] == [["scale_quantizer", "b"]]
    np.testing.assert_array_equal(
        layer(np.ones((1, 6, 1), np.float32)), 3 * 0.3125 * np.ones((1, 2, 1))
    )  # 5/16, of three bits, is nearest to 1/3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QMaxPooling2D((2, 2, 2)), "pool_size is a number of elements"),
        (lambda: QMaxPooling2D(padding="causal"), "Unknown padding"),
        (lambda: QMaxPooling1D(data_format="channels_first"), "Channels come last"),
        (lambda: QGlobalAveragePooling2D(data_format="channels_first"), "Channels come last"),
        (lambda: QMaxPooling1D(9).build((None, 4, 2)), "larger than the input"),
        (lambda: QMaxPooling1D().build((None, 4, 4, 2)), "an input of 3 axes"),
        (lambda: QGlobalMaxPooling1D().build((None, 4, 4, 2)), "an input of 3 axes"),
        (lambda: QAveragePooling1D(quantizer=None), "needs its quantizer"),
        (lambda: QAveragePooling2D(scale_quantizer=None), "needs its scale_quantizer"),
        (lambda: QSum(quantizer=None), "needs its quantizer"),
        (lambda: QSum(scale=3), r"scaled by a shift[\s\S]*a power of two[\s\S]*3"),
        (lambda: QMean(0).build((None, 4, 2)), "no such axes"),
        (lambda: QMax((1, -2)).build((None, 4, 2)), "no such axes"),
        (lambda: QMin(3).build((None, 4, 2)), r"different ones of 1 to 2[\s\S]*\(3,\)"),
        (lambda: QSum(1).build((None, 4)), "Nothing would be left"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (K.AveragePooling2D(3), (6, 6, 1), r"no power of two[\s\S]*9 values[\s\S]*QAveragePooling2D"),
        (K.AveragePooling1D(4, padding="same"), (6, 1), r"3 values[\s\S]*QAveragePooling1D"),
        (K.GlobalAveragePooling1D(), (7, 2), r"7 values[\s\S]*QGlobalAveragePooling1D"),
        (K.MaxPooling1D(2, data_format="channels_first"), (4, 4), "Channels come last"),
    ],
)
def test_what_keras_would_round_is_refused(layer, shape, message):
    model = keras.Sequential([keras.Input(shape), QInput(), layer])
    with pytest.raises(FreezeError, match=message):
        freeze(model)
