"""What a user may write, and what a quantizer makes of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import quantizers
from hgq.errors import ConfigError
from hgq.quantizers import FixedQuantizer


@pytest.mark.parametrize(
    ("parametrization", "given", "expected"),
    [
        ("kbi", {}, (2, 6, 8)),
        ("kbi", {"f0": 3}, (2, 3, 5)),  # HGQ2 ignores it
        ("kbi", {"b0": 3}, (2, 1, 3)),
        ("kbi", {"i0": 1}, (1, 7, 8)),
        ("kbi", {"i0": 1, "f0": 3}, (1, 3, 4)),
        ("kbi", {"b0": 4, "f0": 3}, (1, 3, 4)),
        ("kif", {"i0": 1}, (1, 6, 7)),
        ("kif", {"b0": 5}, (2, 3, 5)),
        ("kif", {"b0": 5, "i0": 1, "f0": 4}, (1, 4, 5)),
    ],
)
def test_initial_bits(parametrization, given, expected):
    q = FixedQuantizer(parametrization, place="weight", **given)
    assert (q.i0, q.f0, q.b0) == expected


def test_contradicting_bits_are_refused():
    with pytest.raises(ConfigError, match=r"contradict each other[\s\S]*b0 = i0 \+ f0[\s\S]*i0=1, f0=3, b0=5"):
        FixedQuantizer("kbi", i0=1, f0=3, b0=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parametrization": "kfi"}, "Unknown parametrization"),
        ({"granularity": "row"}, "Unknown granularity"),
        ({"rounding": "NEAREST"}, "Unknown rounding mode"),
        ({"overflow": "CLIP"}, "Unknown overflow mode"),
        ({"place": "table"}, "Unknown place"),
        ({"k0": 2}, "Unknown k0"),
        ({"parametrization": "kbi", "f_bounds": (0, 3)}, "does not train what f_bounds would bound"),
        ({"parametrization": "kif", "b_bounds": (0, 3)}, "does not train what b_bounds would bound"),
        ({"i_bounds": (3, -3)}, "i_bounds are no bounds"),
        ({"i_bounds": (-999, 3)}, "i_bounds are no bounds"),
        ({"place": "data", "adapt_to_magnitude": True}, "Only a constant has a magnitude"),
        ({"l1": -1.0}, "cannot be negative"),
        ({"dtype": "mixed_float16"}, "compute in float32"),
    ],
)
def test_meaningless_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        FixedQuantizer(**arguments)


def test_element_bits_need_static_shapes():
    with pytest.raises(ConfigError, match='static shape[\\s\\S]*granularity="channel"'):
        FixedQuantizer.for_data().build((None, None, 3))
    FixedQuantizer.for_data(granularity="channel").build((None, None, 3))


def test_a_string_names_a_place_or_a_parametrisation():
    q = quantizers.get("kbi(b0=6, i0=2, rounding=RND_CONV, overflow=SAT, granularity=channel, b_bounds=(1, 9))", "weight")
    assert (q.parametrization, q.place, q.b0, q.i0) == ("kbi", "weight", 6, 2)
    assert (q.rounding, q.overflow, q.granularity, q.b_bounds) == ("RND_CONV", "SAT", "channel", (1, 9))
    q = quantizers.get("data(f0=3)")
    assert (q.place, q.parametrization, q.overflow, q.f0) == ("data", "kif", "WRAP", 3)
    assert quantizers.get("kif", "bias").overflow == "WRAP"
    assert quantizers.get("kif", "weight").overflow == "SAT_SYM"
    assert quantizers.get(None) is None


def test_what_hangs_on_the_place_waits_for_it():
    open_to_all = FixedQuantizer(adapt_to_magnitude=True, b_bounds=(0, 4))
    assert quantizers.get(open_to_all, "weight").adapt_to_magnitude
    assert quantizers.get("kbi(adapt_to_magnitude=True)", "weight").adapt_to_magnitude
    with pytest.raises(ConfigError, match="does not train what b_bounds would bound"):
        quantizers.get(open_to_all, "data")


@pytest.mark.parametrize("text", ["q8", "kbi(", "kbi(b0=)", "kbi b0=3", "kif(f0=3,, i0=1)", 8, ["kbi"], {"class_name": "Dense"}])
def test_what_is_no_quantizer_is_refused_with_the_known_ones(text):
    with pytest.raises(ConfigError, match=r"Not a quantizer[\s\S]*kernel_quantizer[\s\S]*'weight', 'bias', 'data'"):
        quantizers.get(text, "weight", "kernel_quantizer")


def test_unknown_argument_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"no argument 'bits'[\s\S]*granularity"):
        quantizers.get("kbi(bits=8)")


def test_each_layer_gets_its_own_copy():
    q = FixedQuantizer("kbi", b0=5, l1=1e-3)
    copy = quantizers.get(q, "weight", "kernel_quantizer")
    assert copy is not q
    assert (copy.b0, copy.l1, copy.place, copy.overflow, copy.name) == (5, 1e-3, "weight", "SAT_SYM", "kernel_quantizer")
    with pytest.raises(ConfigError, match="made for another place"):
        quantizers.get(FixedQuantizer.for_data(), "weight")


@pytest.mark.parametrize(
    "q",
    [
        FixedQuantizer.for_weights(b0=3, granularity="channel", adapt_to_magnitude=True, b_bounds=(0, 6)),
        FixedQuantizer.for_data(f0=3, rounding="S_RND", seed=4, i_decay=0.5, f_bounds=(-2, 9)),
        FixedQuantizer.for_bias(parametrization="kbi", l1=0.5, k0=0),
    ],
)
def test_configuration_is_complete(q):
    again = quantizers.get(quantizers.serialize(q))
    assert again.get_config() == q.get_config()


@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_bits_adapt_to_the_magnitude(parametrization, granularity):
    """Each group starts with b0 bits right below its largest magnitude."""
    w = keras.Variable(np.float32([[0.7, 0.031], [-0.25, 3.0], [0.0, 0.5]]))
    q = FixedQuantizer.for_weights(parametrization=parametrization, granularity=granularity, b0=5, adapt_to_magnitude=True)
    q.build_for(w)
    largest = np.abs(w.numpy()) if granularity == "element" else np.abs(w.numpy()).max(0, keepdims=True)
    i = np.where(largest > 0, np.ceil(np.log2(np.maximum(largest, 1e-9))), q.i0)
    np.testing.assert_array_equal(np.ravel(q.format().f), np.ravel(np.where(q.format().width > 0, 5 - i, 0)))
    np.testing.assert_array_equal(np.ravel(q.format().i), np.ravel(i))
