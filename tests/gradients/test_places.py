"""Every product takes a scheme: the right axes, numbers of its own, a name by which rules reach it; what cannot, says so."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import gradients
from hgq.errors import ConfigError
from hgq.gradients import HLQ, LUQ
from hgq.ir import contraction
from hgq.layers import (
    QGRU,
    QDense,
    QDenseBatchNorm,
    QDenseT,
    QDot,
    QEinsum,
    QEinsumDense,
    QLinformerAttention,
    QMultiHeadAttention,
    QSeparableConv1D,
    QSimpleRNN,
    with_gradients,
)
from hgq.layers.matrices import as_matrices

RNG = np.random.default_rng(29)

EQUATIONS = [
    ("b,bc->c", False),
    ("abc,cde->abde", False),
    ("bcd,dbe->ecb", False),  # an axis kept
    ("bc,bcd->bd", False),
    ("qhd,khd->hqk", True),
    ("hqk,khd->qhd", True),
    ("a,c->ac", True),
    ("a,a->", True),
]


@pytest.mark.parametrize(("equation", "both"), EQUATIONS)
def test_an_einstein_sum_is_a_matrix_product(equation, both):
    sizes = dict(zip("abcdehkq", (2, 3, 4, 5, 6, 2, 4, 3), strict=True))
    x, y = (equation.partition("->")[0]).split(",")
    out = equation.partition("->")[2]
    one = RNG.normal(size=(7, *(sizes[letter] for letter in x))).astype(np.float32)
    two = RNG.normal(size=(*((7,) if both else ()), *(sizes[letter] for letter in y))).astype(np.float32)
    expected = np.einsum(f"z{x},{'z' if both else ''}{y}->z{out}", one, two)
    left, right, product, back = as_matrices(contraction.read(equation), tf.constant(one), tf.constant(two), both)
    assert left.shape[-1] == right.shape[-2]
    np.testing.assert_allclose(back(product(left, right)), expected, rtol=1e-5, atol=1e-5)


FINE = "hlq(bits=16, kept_bits=16, rank=16)"


@pytest.mark.parametrize(
    "make",
    [
        lambda g: QEinsumDense("abc,cde->abde", (None, 2, 3), gradients=g),
        lambda g: QEinsumDense("abc,bcd->abd", (5, 3), gradients=g),
        lambda g: QDot((2, 2), gradients=g),
        lambda g: QEinsum("abc,adc->abd", gradients=g),
    ],
)
def test_a_scheme_that_owns_both_products_finds_its_axes(make):
    """At full rank and 16 bits HLQ is the float32 gradient, but for its rounding: of both operands, be they data or kernel."""
    x, z = (tf.constant(RNG.normal(size=(4, 5, 6)).astype(np.float32)) for _ in range(2))
    results = []
    keras.utils.set_random_seed(3)
    plain, layer = make(None), make(FINE)
    inputs = x if isinstance(layer, QEinsumDense) else [x, z]
    plain(inputs), layer(inputs)
    for own, other in zip(layer.trainable_variables, plain.trainable_variables, strict=True):
        own.assign(other)
    for one in (plain, layer):
        with tf.GradientTape() as tape:
            tape.watch([x, z])
            loss = tf.reduce_sum(one(inputs, training=True) ** 3)
        found = tape.gradient(loss, [x, z, *(v.value for v in one.trainable_variables)], unconnected_gradients="zero")
        results.append([tf.convert_to_tensor(part).numpy() for part in found])
    for exact, rounded in zip(*results, strict=True):
        assert np.linalg.norm(rounded - exact) <= 2e-3 * np.linalg.norm(exact) + 1e-6
    assert any((a != b).any() for a, b in zip(*results, strict=True)), "the scheme was not used"


@pytest.fixture
def seeds(monkeypatch):
    """The seeds that products were given, in eager runs."""
    given, original = [], LUQ.product

    def noted(self, linear, x, kernel, seed, memory=None):
        given.append(tuple(int(number) for number in seed))
        return original(self, linear, x, kernel, seed, memory)

    monkeypatch.setattr(LUQ, "product", noted)
    return given


@pytest.mark.parametrize(
    ("make", "shape", "products"),
    [
        (lambda: QMultiHeadAttention(2, 2, gradients="luq4"), (3, 4), 6),
        (lambda: QLinformerAttention(2, 2, 2, gradients="luq4"), (4, 4), 8),
        (lambda: QSeparableConv1D(2, 2, gradients="luq4"), (4, 2), 2),
        (lambda: QGRU(2, "hard_tanh", "hard_sigmoid", gradients="luq4"), (4, 2), 12),
        (lambda: QSimpleRNN(2, "hard_tanh", gradients="luq4", unroll=True), (4, 2), 4),
        (lambda: keras.layers.Bidirectional(QSimpleRNN(2, "hard_tanh", gradients="luq4")), (4, 2), 8),
        (lambda: QDenseBatchNorm(3, gradients="luq4"), (4,), 2),
    ],
)
def test_no_two_products_draw_the_same_numbers(seeds, make, shape, products):
    """Neither parts, nor steps of time, nor directions, nor two uses of a shared layer, nor two steps of training."""
    layer, x = make(), tf.constant(RNG.normal(size=(3, *shape)).astype(np.float32))
    layer(x)
    for _ in range(4):
        layer(x, training=True)
    assert len(seeds) == 4 * products and len(set(seeds)) == len(seeds)


def test_rules_reach_inside_layers_and_models(tmp_path):
    keras.utils.set_random_seed(4)
    inner = keras.Sequential([keras.Input((3, 4)), QDense(4, name="dense")], name="inner")
    x = keras.Input((3, 4))
    y = QMultiHeadAttention(2, 2, name="attention")(inner(x))
    y = keras.layers.Bidirectional(QSimpleRNN(2, "hard_tanh", name="cell"), name="both")(y)
    model = keras.Model(x, QDenseT(2, name="tables")(y))
    asked = []

    def choose(place):
        asked.append(place.name)
        return None if place.name.endswith("scores") else "luq4" if place.name.startswith("attention") else "int4"

    copy = with_gradients(model, choose)
    parts = [f"attention/{part}" for part in QMultiHeadAttention.products]
    assert asked == ["inner/dense", *parts, "both/forward_cell/kernel", "both/backward_cell/kernel"]
    attention = copy.get_layer("attention")
    assert attention.scores.backward.scheme is None
    assert attention.context.backward.scheme == gradients.get("luq4")
    assert copy.get_layer("both").backward_layer.backward.schemes == {"kernel": gradients.get("int4")}
    assert copy.get_layer("inner").get_layer("dense").backward.scheme == gradients.get("int4")
    data = RNG.normal(size=(5, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(copy(data), model(data))
    copy.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("attention").get_config()["gradients"] == attention.get_config()["gradients"]
    assert again.get_layer("attention").backward.seed == attention.backward.seed


def test_what_is_left_in_full_precision_is_named(caplog):
    model = keras.Sequential([keras.Input((3, 4)), QDense(4), keras.layers.LSTM(3, name="theirs"), QDenseT(2, name="tables")])
    with caplog.at_level(logging.WARNING, "hgq.layers"):
        with_gradients(model, "luq4")
    assert "full precision in theirs, tables" in caplog.text


def test_what_cannot_take_a_scheme_says_why():
    with pytest.raises(ConfigError, match="no product of data with a kernel"):
        QDenseT(3, gradients="luq4")
    with pytest.raises(ConfigError, match=r"loops cannot assign[\s\S]*unroll=True"):
        QSimpleRNN(3, gradients="luq4(scale='hindsight')")
    with pytest.raises(ConfigError, match=r"no such product[\s\S]*query_dense"):
        QMultiHeadAttention(2, 2, gradients={"query": "luq4"})


def test_a_mapping_is_kept():
    layer = QSeparableConv1D(2, 2, gradients={"depthwise": "hlq"}, gradient_seed=5)
    again = QSeparableConv1D.from_config(layer.get_config())
    assert isinstance(again.depthwise.backward.scheme, HLQ) and again.pointwise.backward.scheme is None
    assert again.depthwise.backward.seed == layer.depthwise.backward.seed
