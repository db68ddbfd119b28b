"""The parts of an import: the staircase, bits that are set, the command."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from hgq.cli.app import build
from hgq.errors import ConfigError, FileFormatError
from hgq.freeze import freeze
from hgq.imports import import_model
from hgq.imports.constants import any_numbers, on_grid, significant_bits
from hgq.imports.staircase import QStaircase
from hgq.ir import interpret
from hgq.layers import QDense, QInput
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer

THRESHOLDS, HEIGHTS, LOWEST = (-1.5, 0.25, 2.0), (0.5, 1.0, 4.0), -2.0


def test_a_staircase_steps_where_it_should():
    layer = QStaircase(THRESHOLDS, HEIGHTS, LOWEST, bits=7)
    x = np.arange(-256, 256, dtype=np.float32).reshape(-1, 2) / 64
    model = keras.Sequential([keras.Input((2,)), QInput("kif(i0=2, f0=6, overflow=SAT, granularity=tensor)"), layer])
    wanted = LOWEST + sum(height * (x >= threshold) for threshold, height in zip(THRESHOLDS, HEIGHTS, strict=True))
    np.testing.assert_array_equal(np.asarray(model(x)), wanted)
    np.testing.assert_array_equal(next(iter(interpret.run(freeze(model), x).values())), wanted)
    again = QStaircase.from_config(layer.get_config())
    np.testing.assert_array_equal(np.asarray(again(x)), wanted)
    assert float(layer.cost()) == 2 * 3 * 7  # two elements, three comparisons of seven bits
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(variable))
    slope = np.asarray(tape.gradient(y, variable))
    np.testing.assert_array_equal(slope, ((x >= -1.5 - 2) & (x <= 2.0 + 2)).astype(np.float32))
    with pytest.raises(ConfigError, match="one height for each of its ascending thresholds"):
        QStaircase([2.0, 1.0], [1.0, 1.0])


def test_bits_can_be_set_to_what_a_file_says():
    layer = QDense(3, kernel_quantizer="kbi(overflow=SAT)", input_quantizer="data")
    layer.build((None, 4))
    rng = np.random.default_rng(2)
    wanted = Fixed(1, rng.integers(-2, 3, (4, 3)), rng.integers(3, 7, (4, 3)))
    layer.kernel_quantizer.set_format(wanted)
    assert layer.kernel_quantizer.format().equals(wanted)
    data = Fixed(rng.integers(0, 2, 4), rng.integers(0, 3, 4), rng.integers(0, 5, 4))
    layer.input_quantizer.set_format(data)
    assert layer.input_quantizer.format().equals(data.canonical())
    with pytest.raises(ConfigError, match=r"(?s)outside the bounds.*b from -1 to 24"):
        layer.kernel_quantizer.set_format(Fixed(1, 20, 20))
    with pytest.raises(ConfigError, match="no bits before it is built"):
        FixedQuantizer.for_weights().set_format(wanted)


def test_weights_keep_their_numbers_whatever_they_are():
    rng = np.random.default_rng(3)
    values = (rng.integers(-200, 200, (5, 4)) * 2.0 ** rng.integers(-9, 3, (5, 4))).astype(np.float32)
    values[0] = 0.0, -4.0, 4.0, -(2.0**-7)
    assert significant_bits(values) == max(map(_bits, values.ravel()))
    layer = QDense(4, kernel_quantizer=any_numbers(values, values).identifier, use_bias=False)
    layer.build((None, 5))
    np.testing.assert_array_equal(any_numbers(values, values).settle(layer.kernel_quantizer), values)
    np.testing.assert_array_equal(np.asarray(layer.kernel_quantizer(values)), values)
    # a latent weight stays where the quantizer gives the wanted number, and gives way where it does not
    latent = np.array([[0.3, 0.6]], np.float32)
    fitted = on_grid(np.array([[0.25, 0.0]], np.float32), latent, 0.25, -3, 3)
    assert fitted is not None
    layer = QDense(2, kernel_quantizer=fitted.identifier, use_bias=False)
    layer.build((None, 1))
    np.testing.assert_array_equal(fitted.settle(layer.kernel_quantizer), np.array([[0.3, 0.0]], np.float32))
    assert on_grid(latent, latent, 0.3, -3, 3) is None


def _bits(value: float) -> int:
    mantissa = abs(int(value * 2**20))
    return len(bin(mantissa)[2:].rstrip("0")) if mantissa else 0


def test_the_command_imports_says_and_refuses(tmp_path):
    with zipfile.ZipFile(Path(__file__).with_name("qkeras_references.zip")) as archive:
        archive.extract("mlp_no_input_quantizer.keras", tmp_path)
    source, target = tmp_path / "mlp_no_input_quantizer.keras", tmp_path / "model.keras"
    done = CliRunner().invoke(build(), ["import", str(source), "-o", str(target), "--input", "kif(i0=2, f0=6)", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["origin"] == "qkeras" and facts["written"] == str(target) and "kif(i0=2, f0=6)" in facts["notes"][0]
    assert keras.saving.load_model(target).get_layer("features_port").quantizer.format().f.tolist() == [6] * 12
    with pytest.raises(FileFormatError, match="a model of hgqc's already"):
        import_model(target)
