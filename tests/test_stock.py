"""Keras' own layers that move elements: Keras ≡ golden ≡ RTL, and what cannot be taken is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import FreezeError
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QDense, QInput
from hgq.passes import optimize

L = keras.layers
STRUCTURE = {
    "permute": ((2, 3, 4), lambda: L.Permute((3, 1, 2))),
    "permute_2": ((2, 3), lambda: L.Permute((2, 1))),
    "pad_1d": ((3, 2), lambda: L.ZeroPadding1D((1, 2))),
    "pad_1d_left": ((3, 2), lambda: L.ZeroPadding1D((1, 0))),
    "pad_2d": ((2, 3, 2), lambda: L.ZeroPadding2D(((0, 1), (2, 1)))),
    "pad_2d_first": ((2, 3, 2), lambda: L.ZeroPadding2D(1, data_format="channels_first")),
    "crop_1d": ((5, 2), lambda: L.Cropping1D((1, 2))),
    "crop_2d": ((4, 5, 2), lambda: L.Cropping2D(((1, 0), (2, 1)))),
    "crop_2d_first": ((2, 4, 5), lambda: L.Cropping2D(1, data_format="channels_first")),
    "up_1d": ((3, 2), lambda: L.UpSampling1D(3)),
    "up_2d": ((2, 3, 2), lambda: L.UpSampling2D((2, 3))),
    "repeat": ((3,), lambda: L.RepeatVector(4)),
    "dropout_1d": ((3, 2), lambda: L.SpatialDropout1D(0.5)),
    "dropout_2d": ((3, 2, 2), lambda: L.SpatialDropout2D(0.5)),
    "dropout_alpha": ((3,), lambda: L.AlphaDropout(0.5)),
    "regularized": ((3,), lambda: L.ActivityRegularization(1e-3)),
}


@pytest.mark.parametrize("name", STRUCTURE)
@pytest.mark.parametrize("dense", [False, True])
def test_structure_is_exact(name, dense):
    rng = np.random.default_rng(len(name))
    shape, layer = STRUCTURE[name]
    model = keras.Sequential(
        [keras.Input(shape, name="x"), QInput("kif(i0=2, f0=2, overflow=SAT)"), layer(), QDense(2) if dense else L.ReLU()]
    )
    (f,) = (weight for weight in model.layers[0].quantizer.weights if weight.name == "f")
    f.assign(rng.integers(-2, 4, f.shape))
    x = rng.normal(scale=3, size=(100, *shape)).astype(np.float32)
    graph = freeze(model, x)
    expected = model(x, training=False).numpy()
    (output,) = graph.outputs
    np.testing.assert_array_equal(interpret.run(graph, x)[output], expected)
    np.testing.assert_array_equal(interpret.run(optimize(graph), x)[output], expected)
    np.testing.assert_array_equal(plugins.backend("rtl").comb_predict(graph, x)[output], expected)


def test_what_is_not_exact_is_refused():
    model = keras.Sequential([keras.Input((2, 3, 1)), QInput(), L.UpSampling2D(2, interpolation="bilinear", name="blur")])
    with pytest.raises(FreezeError, match=r"nearest-neighbour(.*\n)+.*layer blur(.*\n)+.*bilinear"):
        freeze(model)
