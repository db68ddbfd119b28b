"""The native fixed-point quantizer equals the plain-TensorFlow reference: forward bit for bit, gradients to the rounding of sums."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq import native
from hgq.numerics import OVERFLOWS
from hgq.quantizers import FixedQuantizer, fused

EXTREMES = np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.0**23, -(2.0**23) - 1], np.float32)


@pytest.fixture(autouse=True)
def native_ops():
    if not native.state().usable or native.instructions() is None:
        pytest.skip(f"no native ops: {native.state().text}")


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 4))
    place = draw(st.sampled_from(("weight", "bias", "data")))
    first = 2 if place == "data" and rank == 1 else 1
    return {
        "arguments": {
            "parametrization": draw(st.sampled_from(("kif", "kbi"))),
            "place": place,
            "overflow": draw(st.sampled_from(OVERFLOWS)),
            "rounding": draw(st.sampled_from(tuple(fused.ROUNDINGS))),
            "granularity": draw(st.sampled_from(("element", "channel", "tensor"))),
            "i_decay": draw(st.sampled_from((0.0, 0.01, 2.0))),
        },
        "shape": tuple(draw(st.integers(1, 6)) for _ in range(max(rank, first))),
        "rows": draw(st.sampled_from((1, 1, 3, 700))),
        "scale": draw(st.sampled_from((1e-3, 1.0, 50.0))),
        "width": draw(st.sampled_from(((-6.0, 2.0), (-1.0, 9.0), (15.0, 40.0)))),
        "extreme": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def data(case):
    rng = np.random.default_rng(case["seed"])
    shape = (case["shape"][0] * case["rows"], *case["shape"][1:])
    x = (rng.normal(size=shape) * case["scale"]).astype(np.float32)
    if case["extreme"]:
        places = rng.integers(0, x.size, min(x.size, len(EXTREMES)))
        x.flat[places] = rng.permutation(EXTREMES)[: len(places)]
    return x


def quantizer(case, shape):
    """With variables drawn anew, the same each time."""
    made = FixedQuantizer(**case["arguments"])
    made.build((None, *shape[1:]) if made.place == "data" and len(shape) > 1 else shape)
    rng = np.random.default_rng(case["seed"] + 1)
    for name in ("_k", "_i", "_f", "_b", "_seen"):
        variable = getattr(made, name, None)
        if variable is not None:
            low, high = (0, 1) if name in ("_k", "_seen") else (-4.0, 8.0) if name == "_i" else case["width"]
            values = rng.uniform(low, high, variable.shape)
            variable.assign(np.rint(values) if name in ("_k", "_seen") else values)
    return made


def everything(case, x):
    """All that a quantizer says of `x`: exact results, and gradients."""
    one, weights = quantizer(case, x.shape), tf.constant(np.random.default_rng(case["seed"]).normal(size=x.shape), tf.float32)
    at, gradients = tf.constant(x), []
    exact = [one(at, training=False)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(at)
        q = one(at, training=True)
        bits = one.effective_bits(at) if one.constant else one.bits(x.shape[1:])
        losses = (tf.reduce_sum(q * weights), tf.reduce_sum(bits * bits))
    exact += [q, bits, *(variable.value for variable in one.variables), one(at, training=False)]
    variables = [at, *(variable.value for variable in one.trainable_variables)]
    for loss in losses:
        gradients += tape.gradient(loss, variables, unconnected_gradients="zero")
    return [np.asarray(part) for part in exact], [np.asarray(part) for part in gradients]


@settings(max_examples=60, deadline=None)
@given(cases())
def test_it_is_the_reference(case):
    x = data(case)
    if len(x.shape) == 1 and case["arguments"]["place"] == "data":
        x = x[:, None]
    exact, gradients = everything(case, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HGQ_NATIVE", "0")
        expected, expected_gradients = everything(case, x)
    for received, wanted in zip(exact, expected, strict=True):
        np.testing.assert_array_equal(received, wanted)  # 0 equals -0: which one TensorFlow clips to depends on the shape
    magnitude = np.abs(x[np.abs(x) < 1e9], dtype=np.float64).sum() + np.sqrt(x.size) + 2.0 ** case["width"][1]
    for received, wanted in zip(gradients, expected_gradients, strict=True):
        assert received.shape == wanted.shape
        if case["extreme"]:  # infinities of both signs and 3e38 in one sum: in another order it may be another nonsense
            finite = np.isfinite(received) & np.isfinite(wanted) & (np.abs(wanted) < 1e30)
            np.testing.assert_array_equal(np.isfinite(received) | np.isnan(received), np.isfinite(wanted) | np.isnan(wanted))
        else:
            finite = np.isfinite(wanted)
            assert finite.all()
        np.testing.assert_allclose(received[finite], wanted[finite], rtol=1e-4, atol=3e-6 * magnitude)


def test_it_is_the_reference_over_many_blocks():
    """More than one block and more than one thread, the range found in any of them."""
    for granularity in ("element", "channel", "tensor"):
        arguments = {"place": "data", "granularity": granularity, "parametrization": "kif", "overflow": "WRAP"}
        case = {"arguments": arguments, "seed": 3, "width": (1.0, 9.0), "extreme": False}
        x = np.random.default_rng(2).normal(size=(6000, 5, 7)).astype(np.float32)
        x[4321, 3, 2], x[1234, 1, 1] = 77.7, -99.9
        exact, gradients = everything(case, x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HGQ_NATIVE", "0")
            expected, expected_gradients = everything(case, x)
        for received, wanted in zip(exact, expected, strict=True):
            np.testing.assert_array_equal(received, wanted)
        for received, wanted in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(received, wanted, rtol=1e-3, atol=0.05 if granularity == "tensor" else 0.01)
            again = everything(case, x)[1]
        for received, wanted in zip(gradients, again, strict=True):
            np.testing.assert_array_equal(received, wanted)


def test_gradients_in_closed_form():
    """Two numbers inside, one above, one below a symmetric range of 2 integer and 1 fractional bits: the table of `ops.fixed_quantize`."""
    one = FixedQuantizer("kif", place="weight", overflow="SAT_SYM", granularity="tensor", rounding="RND")
    one.build((4,))
    one._k.assign([1.0])
    one._i.assign([2.0])
    one._f.assign([1.0])
    x, upstream = tf.constant([0.6, -1.2, 9.0, -9.0]), np.array([1.0, 2.0, 3.0, 5.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(one(x, training=True) * upstream.astype(np.float32))
    d_x, d_i, d_f = tape.gradient(loss, [x, one._i.value, one._f.value])
    np.testing.assert_array_equal(d_x, [1.0, 2.0, 0.0, 0.0])
    np.testing.assert_allclose(d_i, [np.log(2) * 4 * (3 - 5)], rtol=1e-6)
    np.testing.assert_allclose(d_f, [np.log(2) * (0.1 * 1 - 0.2 * 2 + 0.5 * (3 - 5))], rtol=1e-5)


def test_bits_shared_over_other_than_leading_axes_are_the_references():
    assert fused._trailing((None, 3, 4), (1, 3, 4)) and fused._trailing((5, 3, 4), (1, 1, 1)) and fused._trailing((4,), (4,))
    assert not fused._trailing((5, 3, 4), (5, 1, 4)) and not fused._trailing((5, 3, 4), (1, 3, 1)) and not fused._trailing((3, 4), (4,))
