"""Each quantized layer by itself: what it computes, what it costs, what it refuses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.ir.build import GraphBuilder
from hgq.ir.interpret import run
from hgq.layers import QActivation, QBatchNormalization, QDense, QDenseBatchNorm, QInput, QReLU
from hgq.numerics import Fixed
from tests.rows.counts import significant_bits as effective_bits

RNG = np.random.default_rng(21)
FINE = "kif(f0=16, i0=6, rounding=RND, overflow=SAT)"  # next to no quantization
LAYERS = {
    "dense": lambda: QDense(3, "relu", output_quantizer="kif(i0=2, f0=2, overflow=SAT)"),
    "dense_no_bias": lambda: QDense(3, use_bias=False, kernel_quantizer="kbi(b0=4, granularity=channel, overflow=WRAP)"),
    "dense_batch_norm": lambda: QDenseBatchNorm(3, "relu", epsilon=1e-2),
    "dense_batch_norm_bare": lambda: QDenseBatchNorm(3, center=False, scale=False),
    "batch_norm": lambda: QBatchNormalization(),
    "batch_norm_bare": lambda: QBatchNormalization(center=False, scale=False),
    "activation": lambda: QActivation("relu", "kif(f0=2, overflow=SAT_SYM)"),
    "relu": lambda: QReLU("kbi(b0=3, granularity=tensor)"),
    "input": lambda: QInput("kif(f0=3, rounding=S_RND)"),
}


def trained(layer, shape=(4,), steps=3):
    """The layer after some training calls, its variables scattered: nothing is at its initial value by luck."""
    for _ in range(steps):
        layer(RNG.normal(0.5, 2, (64, *shape)).astype(np.float32), training=True)
    for v in layer.trainable_variables:
        spread = 1.0 if v.path.rsplit("/", 1)[-1] in "bif" else 0.3
        v.assign(v.numpy() + RNG.normal(0, spread, v.shape))
    layer(RNG.normal(0.5, 2, (64, *shape)).astype(np.float32), training=True)
    return layer


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
@pytest.mark.parametrize("name", LAYERS)
def test_frozen_layer_is_the_layer(name, shape):
    layer = trained(LAYERS[name](), shape)
    x = RNG.normal(0.5, 2, (200, *shape)).astype(np.float32)
    b = GraphBuilder("test")
    port = b.input("x", Fixed(*np.broadcast_arrays(1, 8, np.full(shape, 10))), "TRN", "WRAP")
    with b.layer(layer.name):
        graph = b.graph(layer.to_ir(b, port))
    x = np.floor(x * 2.0**10).astype(np.float32) / np.float32(2.0**10)  # what passes the port unharmed
    (golden,) = run(graph, x).values()
    np.testing.assert_array_equal(layer(x, training=False).numpy(), golden)
    assert layer.compute_output_shape((None, *shape)) == (None, *golden.shape[1:])


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
@pytest.mark.parametrize("name", ["dense", "dense_no_bias", "dense_batch_norm", "batch_norm"])
def test_cost_is_the_loop_over_real_bits(name, shape):
    """Inputs with their declared bits, constants with those between their leading and trailing one: counted one product at a time."""
    layer = trained(LAYERS[name](), shape)
    bx = layer.input_quantizer.format().broadcast_to(shape).width
    if name == "batch_norm":
        constants = zip((layer.scale_quantizer, layer.offset_quantizer), layer.folded(), strict=True)
    elif name == "dense_batch_norm":
        constants = zip((layer.kernel_quantizer, layer.bias_quantizer), layer.folded(), strict=True)
    else:
        constants = [(layer.kernel_quantizer, layer.kernel)] + ([(layer.bias_quantizer, layer.bias)] if layer.use_bias else [])
    widths = []
    for quantizer, constant in constants:
        values = quantizer(tf.convert_to_tensor(constant), training=False).numpy()
        widths.append(np.vectorize(effective_bits)(values))
    total = 0
    for position in np.ndindex(shape[:-1]):
        for index in np.ndindex(widths[0].shape):
            total += bx[(*position, index[0])] * widths[0][index]
        if len(widths) == 2:
            total += widths[1].sum()
    assert total > 0
    assert float(layer.cost()) == total


def test_dense_computes_what_its_parts_say():
    layer = trained(QDense(3, "relu"))
    x = RNG.normal(size=(50, 4)).astype(np.float32)
    xq = layer.input_quantizer(x).numpy()
    kernel, bias = layer.kernel_quantizer(layer.kernel.value).numpy(), layer.bias_quantizer(layer.bias.value).numpy()
    np.testing.assert_array_equal(layer(x).numpy(), np.maximum(xq @ kernel + bias, 0))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_dense_batch_norm_is_dense_then_batch_norm(center, scale):
    """In the limit of many bits, in training as in inference; on data neither centred nor of unit variance, with its own epsilon."""
    x = RNG.normal(5, 3, (400, 4)).astype(np.float32)
    q = dict(kernel_quantizer=FINE, bias_quantizer=FINE, input_quantizer=FINE)
    ours = QDenseBatchNorm(3, center=center, scale=scale, epsilon=0.05, momentum=0.7, **q)
    ours.build((None, 4))
    dense, norm = (
        keras.layers.Dense(3, use_bias=False),
        keras.layers.BatchNormalization(center=center, scale=scale, epsilon=0.05, momentum=0.7),
    )
    norm(dense(x))
    dense.kernel.assign(ours.kernel)
    if scale:
        ours.gamma.assign([0.5, 2.0, -1.0])
        norm.gamma.assign(ours.gamma)
    if center:
        ours.offset.assign([1.0, -2.0, 0.25])
        norm.beta.assign(ours.offset)
    for _ in range(3):
        np.testing.assert_allclose(ours(x, training=True), norm(dense(x), training=True), atol=4e-3)
    np.testing.assert_allclose(ours.moving_mean, norm.moving_mean, rtol=1e-3)
    np.testing.assert_allclose(ours.moving_variance, norm.moving_variance, rtol=1e-3)
    np.testing.assert_allclose(ours(x), norm(dense(x)), atol=4e-3)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_batch_normalization_is_that_of_keras(center, scale):
    x = RNG.normal(5, 3, (400, 4)).astype(np.float32)
    ours = QBatchNormalization(
        center=center, scale=scale, momentum=0.5, scale_quantizer=FINE, offset_quantizer=FINE, input_quantizer="kif(f0=12, i0=6)"
    )
    norm = keras.layers.BatchNormalization(center=center, scale=scale, momentum=0.5)
    for _ in range(2):
        np.testing.assert_allclose(ours(x, training=True), norm(x, training=True), atol=2e-3)
    np.testing.assert_allclose(ours(x), norm(x), atol=2e-3)
    assert (ours.offset is not None) == center


def test_frozen_statistics_stay():
    layer = QDenseBatchNorm(3)
    layer.build((None, 4))
    layer.trainable = False
    layer(RNG.normal(5, 3, (64, 4)).astype(np.float32), training=True)
    np.testing.assert_array_equal(layer.moving_mean, 0)


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_is_complete(name):
    layer = LAYERS[name]()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_options_of_batch_norm_survive_serialization():
    given = dict(momentum=0.3, epsilon=0.2, center=False, scale=False, moving_mean_initializer="ones", gamma_regularizer="l2", beta=3e-4)
    again = QDenseBatchNorm.from_config(QDenseBatchNorm(2, **given).get_config())
    assert (again.momentum, again.epsilon, again.center, again.scale) == (0.3, 0.2, False, False)
    assert isinstance(again.moving_mean_initializer, keras.initializers.Ones)
    assert isinstance(again.gamma_regularizer, keras.regularizers.L2)
    assert float(again.beta.numpy()) == np.float32(3e-4)


def test_unknown_activation_names_the_known_ones():
    for make in (lambda: QDense(2, "gelu"), lambda: QActivation("gelu"), lambda: QDenseBatchNorm(2, "gelu")):
        with pytest.raises(ConfigError, match=r"Unknown activation[\s\S]*'linear' or 'relu'[\s\S]*'gelu'"):
            make()
    assert QDense(2, keras.activations.relu).activation == "relu"


@pytest.mark.parametrize(
    "make", [lambda: QDense(2, input_quantizer=None), lambda: QBatchNormalization(input_quantizer=None), lambda: QInput(None)]
)
def test_a_layer_needs_its_quantizers(make):
    with pytest.raises(ConfigError, match=r"needs its (input_)?quantizer"):
        make()


@pytest.mark.parametrize("units", [0, -3, 2.5, True])
def test_units_are_a_positive_integer(units):
    with pytest.raises(ConfigError, match=r"units is the number of outputs"):
        QDense(units)


def test_other_precisions_are_refused():
    with pytest.raises(ConfigError, match=r'compute in float32[\s\S]*"float32"'):
        QDense(2, dtype="mixed_bfloat16")


def test_shapes_must_be_static():
    with pytest.raises(ConfigError, match="static input shape"):
        QDense(2, input_quantizer="data(granularity=channel)").build((None, None, 3))


def test_pass_through_of_regularizers_and_constraints():
    layer = QDense(2, kernel_regularizer=keras.regularizers.L2(0.5), kernel_constraint="non_neg", bias_initializer="ones")
    layer.build((None, 3))
    assert len(layer.losses) == 1
    assert float(layer.losses[0]) == pytest.approx(0.5 * float((layer.kernel.numpy() ** 2).sum()), rel=1e-5)
    assert isinstance(layer.kernel.constraint, keras.constraints.NonNeg)
    np.testing.assert_array_equal(layer.bias.numpy(), 1)
