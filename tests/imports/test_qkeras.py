"""Imported QKeras models against what QKeras itself predicts: files and predictions made by `make_qkeras_references.py`."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from hgq import cache, verify
from hgq.errors import ConfigError, FileFormatError
from hgq.freeze import freeze
from hgq.imports import ImportOptions, import_model
from hgq.imports.qkeras.identifiers import parse
from hgq.ir import interpret
from hgq.layers import qlayers
from tests.imports.make_qkeras_references import LEGACY, VARIANTS, samples
from tests.imports.references import unpacked

ROUNDED = ("mlp_auto", "batch_norm_default")
"""Models whose numbers are real ones: predictions equal but for float32's own rounding."""
HEADS = ("mlp_stock_relu",)
REFUSED = ("lstm",)
OLD = [f"legacy_{name}" for name in LEGACY]
QUICK = {"mlp_auto_po2", "mlp_numeric_alpha", "mlp_stochastic", "mlp_binary_01", "mlp_po2", "mlp_relu_po2", "mlp_linear", "mlp_leaky"}
QUICK |= {"mlp_symmetric_sigmoid_tanh", "conv2d", "depthwise", "batch_norm_po2", "dense_batchnorm"}
QUICK |= {"transpose", "legacy_mlp_ternary_auto_po2"}
FIRMWARE = ("mlp_bits", "mlp_relu_po2", "mlp_real_sigmoid_tanh", "conv2d", "batch_norm_po2", "branches", "mlp_auto_po2", "mlp_po2")
FIRMWARE += ("mlp_numeric_alpha", "mlp_binary_01", "mlp_linear", "mlp_leaky", "dense_batchnorm")
ALL = [name for name in [*VARIANTS, *OLD] if name not in (*ROUNDED, *HEADS, *REFUSED)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference files."""
    return unpacked("qkeras", tmp_path_factory)


def model_file(folder: Path, name: str) -> Path:
    (path,) = (found for ending in ("keras", "h5", "json") if (found := folder / f"{name}.{ending}").is_file())
    return path


def imported(folder: Path, name: str, **options):
    result = import_model(model_file(folder, name), options=ImportOptions(**options))
    assert result.origin == "qkeras"
    return result.model


def predictions(model, x):
    return np.asarray(model(x, training=False))


def theirs(folder: Path, name: str) -> np.ndarray:
    with np.load(folder / f"{name}.npz") as stored:
        return stored["y"]


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL])
def test_predictions_are_those_of_qkeras(name, folder):
    model, y = imported(folder, name), theirs(folder, name)
    x = samples(model.input_shape[1:], 11)
    got = predictions(model, x)
    assert len(y) == 1000 and len(np.unique(y)) > 20  # a model that says something
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(next(iter(interpret.run(freeze(model), x).values())), y)


@pytest.mark.parametrize("name", [ROUNDED[0], pytest.param(ROUNDED[1], marks=pytest.mark.slow)])
def test_real_numbers_are_refused_or_rounded(name, folder):
    with pytest.raises(ConfigError, match="real numbers here"):
        imported(folder, name)
    exact, short = imported(folder, name, float_bits=24), imported(folder, name, float_bits=10)
    x, y = samples(exact.input_shape[1:], 11), theirs(folder, name)
    # 24 bits are float32's own: only the order of its roundings may differ
    np.testing.assert_allclose(predictions(exact, x), y, atol=1e-5)
    # 10 bits: relative errors of 2**-11 before quantizers with steps of 2**-4 move few of them to the next step
    assert np.mean(np.abs(predictions(short, x) - y) > 0.02) < 0.05
    np.testing.assert_array_equal(next(iter(interpret.run(freeze(short), x).values())), predictions(short, x))


def test_a_softmax_at_the_end_is_refused_or_left_out(folder):
    with pytest.raises(ConfigError, match=r"(?s)softmax.*--drop-head"):
        imported(folder, "mlp_stock_relu")
    model = imported(folder, "mlp_stock_relu", drop_head=True)
    logits = predictions(model, samples((12,), 11))
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(logits)), theirs(folder, "mlp_stock_relu"), atol=1e-6)


@pytest.mark.slow
def test_an_imported_model_saves_and_trains_on(folder, tmp_path):
    model, x = imported(folder, "mlp_binary_01"), samples((12,), 11)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(predictions(again, x), theirs(folder, "mlp_binary_01"))
    again.compile(keras.optimizers.Adam(0.01), "mse")
    first, *_, last = again.fit(x, np.tanh(x[:, :4]), batch_size=250, epochs=4, verbose=0).history["loss"]
    assert last < first and all(np.isfinite(np.asarray(weight)).all() for layer in qlayers(again) for weight in layer.weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bernoulli()", "no equal here"),
        ("quantized_bits(4, 0, scale_axis=1)", "scale_axis cannot be imported"),
        ("quantized_bits(4, 0, qnoise_factor=0.5)", "mixes quantized and unquantized"),
        ("quantized_bits(4", "Not a quantizer of QKeras"),
    ],
)
def test_quantizers_that_cannot_be_had_are_refused_by_name(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text, "layer x, kernel_quantizer")


def test_recurrent_layers_are_refused_with_the_way_out(folder):
    with pytest.raises(ConfigError, match=r"(?s)qkeras.QLSTM.*where the next step reads it.*QSimpleRNN, QGRU and QLSTM"):
        imported(folder, "lstm")


def test_foreign_files_are_refused(folder, tmp_path):
    with pytest.raises(FileFormatError, match="no such model file"):
        import_model(tmp_path / "none.h5")
    (tmp_path / "weird.json").write_text("{}")
    with pytest.raises(FileFormatError, match="describes no network"):
        import_model(tmp_path / "weird.json")
    lonely = json.loads(model_file(folder, "mlp_po2").read_text())
    (tmp_path / "lonely.json").write_text(json.dumps(lonely))
    with pytest.raises(FileFormatError, match=r"(?s)without its weights.*lonely\.weights\.h5"):
        import_model(tmp_path / "lonely.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRMWARE)
def test_firmware_of_an_imported_model_is_exact(name, folder, tmp_path):
    model = imported(folder, name)
    graph, x = freeze(model), samples(model.input_shape[1:], 11)
    verdict = verify.verify(graph, x, backends=("rtl", "hls4ml"), corners=100, workdir=tmp_path)
    assert [check.mismatches for check in verdict.checks] == [0] * len(verdict.checks) and len(verdict.checks) >= 2


@pytest.fixture(scope="module")
def qkeras():
    """The Python of an environment with qkeras-v3, made once in the cache."""
    home = cache.folder("venvs", "qkeras-v3-1.2.1")
    python = home / "bin" / "python"
    if not (home / "ready").is_file():
        commands = ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-q", "qkeras-v3==1.2.1"])
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
            if done.returncode:
                pytest.skip(f"qkeras-v3 cannot be installed here: {done.stderr[-300:]}")
        (home / "ready").touch()
    return str(python)


@pytest.mark.slow
def test_references_are_what_qkeras_makes(qkeras, folder, tmp_path):
    """Models made now, by a QKeras of today, for some of the variants: the committed files are no fossils."""
    script = Path(__file__).with_name("make_qkeras_references.py")
    names = ["mlp_auto_po2", "mlp_stochastic", "conv1d", "conv_batchnorm"]
    subprocess.run([qkeras, str(script), str(tmp_path), *names], check=True, capture_output=True, timeout=900)
    for name in names:
        model, y = imported(tmp_path, name), theirs(tmp_path, name)
        np.testing.assert_array_equal(y, theirs(folder, name))
        np.testing.assert_array_equal(predictions(model, samples(model.input_shape[1:], 11)), y)
