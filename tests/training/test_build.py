"""From recipes to models."""

from __future__ import annotations

import re

import pytest

from hgq import gradients
from hgq.errors import ConfigError
from hgq.training import load_data
from hgq.training.build import build_model

DENSE = {"type": "QDense", "units": 3}


def built(recipe):
    return build_model(recipe, load_data(recipe))


def test_mlp(recipe):
    model = built(recipe(model={"widths": [6, 5]}))
    assert [layer.name for layer in model.layers] == ["qdense_0", "qdense_1", "qdense_2"]
    assert [layer.units for layer in model.layers] == [6, 5, 3] and model.output_shape == (None, 3)
    assert model.optimizer.built


def test_names_do_not_depend_on_the_process(recipe):
    assert [layer.name for layer in built(recipe()).layers] == [layer.name for layer in built(recipe()).layers]


def test_batchnorm_mlp(recipe):
    names = [type(layer).__name__ for layer in built(recipe(model={"layer": "QDenseBatchNorm"})).layers]
    assert names == ["QDenseBatchNorm", "QDense"]


def test_listed_layers(recipe):
    layers = [{"type": "Reshape", "target_shape": [2, 2]}, {"type": "Flatten"}, {"type": "QDense", "units": 5, "activation": "relu"}, DENSE]
    model = built(recipe(layers=layers))
    assert [layer.name for layer in model.layers] == ["reshape_0", "flatten_0", "qdense_0", "qdense_1"]


def test_the_first_matching_rule_counts_and_arguments_come_first(recipe):
    rules = [
        {"match": "_0$", "weight": "kbi(b0=3)"},
        {"match": "", "weight": "kbi(b0=5)", "activation": "data(f0=1)", "bias": "bias(f0=2)"},
    ]
    layers = [{"type": "QDense", "units": 4}, {"type": "QDense", "units": 4, "kernel_quantizer": "kbi(b0=7)"}, DENSE]
    a, b, c = built(recipe(layers=layers, rules=rules)).layers
    assert [layer.kernel_quantizer.b0 for layer in (a, b, c)] == [3, 7, 5]
    assert a.input_quantizer.f0 == 6 and b.input_quantizer.f0 == 1 and c.bias_quantizer.f0 == 2


def test_gradients_by_rule_and_for_all(recipe):
    rules = [{"match": "_2$", "gradients": "none"}, {"match": "_0$", "gradients": "int4"}, {"match": ""}]
    model = built(recipe(rules=rules, train={"gradients": "luq4"}, model={"widths": [4, 4]}))
    assert [layer.backward.scheme for layer in model.layers] == [gradients.get("int4"), gradients.get("luq4"), None]


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"layers": [{"type": "QDens", "units": 3}]}, r"Unknown layer.*layers\.0.*Did you mean 'QDense'"),
        ({"layers": [{"type": "Dense", "units": 3}]}, r"Unknown layer.*QDense"),
        ({"layers": [{**DENSE, "unit": 3}]}, r"no argument 'unit'.*Did you mean 'units'"),
        ({"layers": [{"type": "QDense"}]}, r"refuses its arguments.*units"),
        ({"layers": [{"type": "QDense", "units": 4}]}, r"model does not fit.*3 outputs.*\(4,\)"),
        ({"layers": [{"type": "Flatten"}]}, r"does not fit"),
        ({"layers": [{**DENSE, "kernel_quantizer": "kbj()"}]}, r"Not a quantizer"),
        ({"layers": [{"type": "Reshape", "target_shape": [3, 3]}, DENSE]}, r"do not fit together"),
        ({"rules": [{"match": "", "weight": "nonsense"}]}, r"Not a quantizer"),
        ({"rules": [{"match": "", "gradients": "luk4"}]}, r"Not a way to compute gradients.*layer qdense_0.*Did you mean 'luq4'"),
        ({"train": {"optimizer": "adamm", "bit_rate": 1.0}}, r"Unknown optimizer.*adamm"),
        ({"train": {"optimizer": "rmsprop", "bit_rate": 2.0}}, r"train\.bit_rate"),
    ],
)
def test_what_is_wrong_is_explained(recipe, changes, pattern):
    with pytest.raises(ConfigError) as caught:
        built(recipe(**changes))
    assert re.search(pattern, str(caught.value), re.DOTALL), caught.value


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_bits_learn_faster(name):
    """One step with equal gradients: bits move `bit_rate` times as far."""
    import keras
    import numpy as np

    from hgq.training.optimizers import optimizer

    made = optimizer(name, 0.01, 4.0)
    weight, bits = keras.Variable(np.zeros(3, "float32"), name="kernel"), keras.Variable(np.zeros(3, "float32"), name="b")
    made.build([weight, bits])
    made.apply([keras.ops.ones(3), keras.ops.ones(3)], [weight, bits])
    np.testing.assert_allclose(np.asarray(bits), 4 * np.asarray(weight), rtol=1e-5)
    assert type(made).from_config(made.get_config()).bit_rate == 4.0


NETS = """
import keras
from hgq.layers import QDense

def net(shape, outputs):
    x = keras.Input(shape)
    y = QDense(4, "relu")(x)
    return keras.Model(x, QDense(outputs)(keras.layers.Concatenate()([y, y])), name="mine")

def wide(shape, outputs):
    return keras.Sequential([keras.Input(shape), QDense(outputs + 1)])

def none(shape, outputs):
    return None

def fails(shape, outputs):
    raise RuntimeError
"""


def test_a_function_of_the_users(recipe, tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    model = built(recipe(model={"build": f"{path}:net"}))
    assert model.name == "mine" and model.output_shape == (None, 3) and model.optimizer.built


@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        ("nets.py:nets", r"no such function[\s\S]*net or wide or none"),
        ("net.py:net", r"no such file"),
        ("nets.py:wide", r"model does not fit[\s\S]*3 outputs"),
        ("nets.py:none", r"no model that could be trained[\s\S]*NoneType"),
        ("no.such.module:net", r"cannot be imported[\s\S]*No module named 'no'"),
        ("broken.py:net", r"cannot be imported[\s\S]*SyntaxError"),
    ],
)
def test_functions_that_will_not_do(recipe, tmp_path, monkeypatch, build, pattern):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("def")
    with pytest.raises(ConfigError, match=pattern):
        built(recipe(model={"build": build}))
