"""Softmax, layer normalization and attention against Keras' own, with formats so wide that they hardly matter; masks; what is refused."""

from __future__ import annotations

import builtins
import json
import zipfile

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import ConfigError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QLayerNormalization, QLinformerAttention, QMultiHeadAttention, QSoftmax, total_ebops
from hgq.quantizers import Quantizer

RNG = np.random.default_rng(5)
WIDE = "kif(i0=5, f0=8, overflow=SAT, granularity=tensor)"
UNSIGNED = "kif(k0=0, i0=5, f0=7, overflow=SAT, granularity=tensor)"
CONSTANT = "kbi(b0=12, i0=2)"
SOFTMAX = {
    "input_quantizer": WIDE,
    "exp_input_quantizer": UNSIGNED,
    "exp_output_quantizer": "kif(k0=0, i0=1, f0=11, overflow=SAT, granularity=tensor)",
    "inverse_input_quantizer": UNSIGNED,
    "inverse_output_quantizer": "kif(k0=0, i0=3, f0=9, overflow=SAT, granularity=tensor)",
}


def samples(*shape: int) -> np.ndarray:
    return RNG.normal(size=(40, *shape)).astype(np.float32)


def model_of(layer, *shapes) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], layer(*inputs))


def assert_exact(model: keras.Model, *data: np.ndarray) -> np.ndarray:
    """Keras ≡ golden ≡ RTL; training charges what the estimate counts."""
    plain = freeze(model, [value.astype(np.float32) for value in data], optimize=False)
    assert ebops_of(plain) == total_ebops(model)
    expected = model.predict(data[0] if len(data) == 1 else list(data), verbose=0)
    named = {port.name: value for port, value in zip(plain.inputs, data, strict=True)}
    for graph in (plain, freeze(model)):
        (golden,) = interpret.run(graph, named).values()
        np.testing.assert_array_equal(golden, expected)
    (rtl,) = plugins.backend("rtl").comb_predict(graph, named).values()
    np.testing.assert_array_equal(rtl, expected)
    return expected


@pytest.mark.parametrize("stable", [True, False])
def test_softmax_is_keras_softmax(stable):
    x = samples(3, 5) / 2
    layer = QSoftmax(
        stable=stable, **{**SOFTMAX, **({} if stable else {"exp_output_quantizer": UNSIGNED, "inverse_input_quantizer": UNSIGNED})}
    )
    y = model_of(layer, (3, 5)).predict(x, verbose=0)
    np.testing.assert_allclose(y, keras.layers.Softmax()(x), atol=0.02)


def test_scale_and_axes():
    x = samples(2, 3, 2)
    y = model_of(QSoftmax((1, 3), input_scale=0.5, **SOFTMAX), (2, 3, 2)).predict(x, verbose=0)
    np.testing.assert_allclose(y, keras.layers.Softmax((1, 3))(x / 2), atol=0.02)


def test_a_mask_known_beforehand():
    mask = np.tril(np.ones((4, 4), bool))
    x = samples(4, 4)
    layer = QSoftmax(mask=mask, **SOFTMAX)
    y = assert_exact(model_of(layer, (4, 4)), x)
    np.testing.assert_allclose(y, keras.layers.Softmax()(x, mask=np.broadcast_to(mask, x.shape)), atol=0.02)
    assert (y[:, ~mask] == 0).all()
    assert QSoftmax.from_config(layer.get_config()).mask.tolist() == mask.tolist()


def test_a_row_in_which_nothing_takes_part_is_zero():
    mask = np.array([[True, False, True], [False] * 3])
    y = assert_exact(model_of(QSoftmax(mask=mask), (2, 3)), samples(2, 3))
    assert (y[:, 1] == 0).all()


@pytest.mark.parametrize("stable", [True, False])
def test_a_mask_that_is_data(stable):
    x, mask = samples(3, 4) / 2, RNG.random((40, 3, 4)) < 0.7
    mask[:, :, 0] = True
    arguments = {**SOFTMAX, **({} if stable else {"exp_output_quantizer": UNSIGNED})}
    inputs = [keras.Input((3, 4)), keras.Input((3, 4), dtype="bool")]
    model = keras.Model(inputs, QSoftmax(stable=stable, **arguments)(inputs[0], mask=inputs[1]))
    y = assert_exact(model, x, mask)
    np.testing.assert_allclose(y, keras.layers.Softmax()(x, mask=mask), atol=0.03)


def test_masks_that_hardware_cannot_see_are_refused():
    inputs = keras.Input((4, 3))
    with pytest.raises(ConfigError, match="rank"):
        QSoftmax()(inputs, mask=keras.Input((4,), dtype="bool"))
    with pytest.raises(ConfigError, match="does not broadcast"):
        QSoftmax(mask=np.ones((2, 3), bool))(inputs)
    with pytest.raises(ConfigError, match="no such axes"):
        QSoftmax(axis=0)(inputs)


@pytest.mark.parametrize(
    ("axis", "arguments"), [(-1, {}), (1, {"center": False}), ((1, 2), {"scale": False}), (-1, {"center": False, "scale": False})]
)
def test_layer_normalization_is_that_of_keras(axis, arguments):
    x = samples(4, 6) * 1.5 + 0.5
    quantizers = dict.fromkeys(
        ("input_quantizer", "mean_quantizer", "centered_quantizer"), "kif(i0=4, f0=7, overflow=SAT, granularity=tensor)"
    )
    tables = {
        "rsqrt_input_quantizer": "kif(k0=0, i0=7, f0=7, overflow=SAT, granularity=tensor)",
        "rsqrt_output_quantizer": "kif(k0=0, i0=3, f0=9, overflow=SAT, granularity=tensor)",
        "normalized_quantizer": "kif(i0=3, f0=9, overflow=SAT, granularity=tensor)",
    }
    constants = {"scale_quantizer": CONSTANT, "gamma_quantizer": CONSTANT, "offset_quantizer": "kif(f0=10)"}
    ours = QLayerNormalization(axis, **arguments, **quantizers, **tables, **constants)
    stock = keras.layers.LayerNormalization(axis, **arguments)
    model = model_of(ours, (4, 6))
    stock(x)
    for name, own in (("gamma", "gamma"), ("beta", "offset")):
        if getattr(stock, name, None) is not None:
            values = RNG.normal(1.0, 0.3, getattr(stock, name).shape)
            getattr(stock, name).assign(values)
            getattr(ours, own).assign(values)
    np.testing.assert_allclose(model.predict(x, verbose=0), stock(x), atol=0.12)


def pair_of_attentions(shapes, call, **arguments):
    """Ours with wide formats and Keras', with the same weights."""
    keras.utils.set_random_seed(5)  # with weights drawn anew each time, one run in many met a probability so sharp that formats matter
    quantizers = {
        "input_quantizer": "kif(i0=3, f0=6, overflow=SAT, granularity=tensor)",
        "projected_quantizer": "kif(i0=3, f0=6, overflow=SAT, granularity=tensor)",
        "probability_quantizer": "kif(k0=0, i0=0, f0=9, overflow=SAT, granularity=tensor)",
        "kernel_quantizer": "kbi(b0=9, i0=1)",
        "softmax": SOFTMAX,
    }
    ours, stock = QMultiHeadAttention(2, 3, **arguments, **quantizers), keras.layers.MultiHeadAttention(2, 3, **arguments)
    inputs = [keras.Input(shape) for shape in shapes]
    model, reference = keras.Model(inputs, call(ours, *inputs)), keras.Model(inputs, call(stock, *inputs))
    for part in ("query", "key", "value", "output"):
        theirs, own = getattr(stock, f"{part}_dense", None) or getattr(stock, f"_{part}_dense"), getattr(ours, f"{part}_dense")
        own.kernel.assign(theirs.kernel)
        if own.use_bias:
            values = RNG.normal(0, 0.3, theirs.bias.shape)
            theirs.bias.assign(values)
            own.bias.assign(values.reshape(own.bias.shape))
    return model, reference


@pytest.mark.parametrize(
    ("shapes", "call", "arguments"),
    [
        ([(4, 5)], lambda layer, x: layer(x, x), {}),
        ([(4, 5)], lambda layer, x: layer(x, x, use_causal_mask=True), {"use_bias": False}),
        ([(3, 5), (4, 2)], lambda layer, q, v: layer(q, v), {"value_dim": 2, "output_shape": 3}),
        ([(3, 4), (5, 2), (5, 3)], lambda layer, q, v, k: layer(q, v, k), {}),
        ([(2, 3, 4)], lambda layer, x: layer(x, x), {"attention_axes": 2}),
        ([(2, 3, 2)], lambda layer, x: layer(x, x), {"output_shape": (2, 2)}),
    ],
    ids=["self", "causal", "cross", "key", "one axis of two", "two axes, two of output"],
)
def test_attention_is_that_of_keras(shapes, call, arguments):
    model, reference = pair_of_attentions(shapes, call, **arguments)
    x = [samples(*shape) for shape in shapes]
    np.testing.assert_allclose(model.predict(x, verbose=0), reference.predict(x, verbose=0), atol=0.06)


def test_an_attention_mask_is_an_input():
    inputs = [keras.Input((3, 2), name="x"), keras.Input((3, 3), dtype="bool", name="mask")]
    layer = QMultiHeadAttention(1, 2, input_quantizer="data(f0=3)", projected_quantizer="data(f0=2)", kernel_quantizer="kbi(b0=4, i0=1)")
    model = keras.Model(inputs, layer(inputs[0], attention_mask=inputs[1], value=inputs[0]))
    mask = RNG.random((40, 3, 3)) < 0.7
    assert_exact(model, samples(3, 2), mask)


def test_causality_is_of_the_layer():
    layer, x = QMultiHeadAttention(1, 2), keras.Input((3, 2))
    layer(x, use_causal_mask=True)
    with pytest.raises(ConfigError, match="causal in one call"):
        layer(x)


def test_linformer_refuses_masks_and_projects_once():
    x = keras.Input((4, 2))
    with pytest.raises(ConfigError, match="knows no mask"):
        QLinformerAttention(1, 2, 2)(x, use_causal_mask=True)
    layer = QLinformerAttention(1, 2, 2, share_projection=True)
    layer(x)
    assert layer.key_projection is layer.value_projection


def test_a_mask_that_keras_passes_on_is_refused():
    with pytest.raises(ConfigError, match="no input of the model"):
        QSoftmax()(keras.layers.Masking()(samples(3, 2)))


def test_saved_quantizers_are_never_taken_for_each_other(tmp_path, monkeypatch):
    """Keras tells shared objects by `id` while it saves; a quantizer made for its configuration alone is gone before the next one."""
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, QMultiHeadAttention(2, 2, output_quantizer="kbi(b0=8, i0=2)")(inputs))
    get_config = QMultiHeadAttention.get_config

    def get_config_where_ids_come_again(layer) -> dict:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtins, "id", lambda thing, real=id: 7 if isinstance(thing, Quantizer) else real(thing))
            return get_config(layer)

    monkeypatch.setattr(QMultiHeadAttention, "get_config", get_config_where_ids_come_again)
    model.save(tmp_path / "model.keras")
    shared = list[str]()

    def note(config: dict) -> dict:
        shared.extend([config["class_name"]] if "shared_object_id" in config else [])
        return config

    json.loads(zipfile.ZipFile(tmp_path / "model.keras").read("config.json"), object_hook=note)
    assert "FixedQuantizer" not in shared
    keras.saving.load_model(tmp_path / "model.keras")
