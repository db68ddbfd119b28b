"""Keras predict equals the golden integers; what cannot be frozen is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.calibrate import calibrate
from hgq.errors import DataError, FileFormatError, FreezeError
from hgq.estimate import ebops_of
from hgq.freeze import freeze, freeze_file, freezes
from hgq.ir import file, interpret
from hgq.layers import QBatchNormalization, QDense, QDenseBatchNorm, QInput, QReLU, total_ebops
from tests.random_models import random_model


def assert_exact(model, x, graph=None) -> None:
    graph = graph or freeze(model, x)
    predicted = model.predict(x, verbose=0)
    predicted = predicted if isinstance(predicted, list) else [predicted]
    golden = interpret.run(graph, x)
    for name, expected in zip(graph.outputs, predicted, strict=True):
        np.testing.assert_array_equal(golden[name], expected.astype(np.float64))


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(scale=2, size=(400, 8)).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_random_models_are_exact_in_and_out_of_the_calibrated_range(seed):
    model, x = random_model(seed)
    for optimize in (True, False):
        graph = freeze(model, x[:200], optimize=optimize)
        assert_exact(model, x, graph)
        assert_exact(model, 3 * x, graph)


def test_every_layer_and_structure(x):
    inputs = keras.Input((4, 2), name="hits per layer")
    h = keras.layers.Flatten()(QInput(name="in")(inputs))
    shared = QDense(8, activation="relu", name="shared")
    h = shared(shared(h))
    h = keras.layers.Dropout(0.3)(h)
    h = QBatchNormalization()(h)
    nested = keras.Sequential([keras.Input((8,)), QDenseBatchNorm(6, activation="relu"), keras.layers.Reshape((3, 2))], name="nested")
    h = nested(h)
    h = QReLU()(QDense(3)(h))
    a = QDense(2, name="a")(keras.layers.Flatten()(h))
    model = keras.Model(inputs, [a, h])
    assert_exact(model, x.reshape(-1, 4, 2))


def test_two_inputs_keep_their_order(x):
    first, second = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    model = keras.Model([first, second], [QDense(2, name="on_a")(second), QDense(2, name="on_z")(first)])
    data = {"z": x[:, :3], "a": x[:, 3:6]}
    graph = freeze(model, data)
    assert [port.name for port in graph.inputs] == ["z", "a"]
    predicted = model.predict([data["z"], data["a"]], verbose=0)
    golden = interpret.run(graph, data)
    for name, expected in zip(graph.outputs, predicted, strict=True):
        np.testing.assert_array_equal(golden[name], expected)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
@pytest.mark.parametrize("rounding", ["TRN", "RND"])
def test_branches_with_quantizers_of_their_own_share_a_port(x, overflow, rounding):
    def quantizer(i, f):
        return f"kif(i0={i}, f0={f}, overflow={overflow}, rounding={rounding})"

    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, [QDense(2, input_quantizer=quantizer(1, 2))(inputs), QDense(2, input_quantizer=quantizer(2, 1))(inputs)])
    graph = freeze(model)
    assert len(graph.inputs) == 1
    assert_exact(model, x, graph)


def test_branches_that_cannot_share_a_port_are_refused():
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, [QDense(2, input_quantizer=f"kif(f0={f}, rounding=RND_CONV)")(inputs) for f in (1, 2)])
    with pytest.raises(FreezeError, match="no common port can feed exactly") as caught:
        freeze(model)
    assert "QInput()" in str(caught.value)


def test_a_model_that_only_quantizes_is_its_port(x):
    graph = freeze(keras.Sequential([keras.Input((8,), name="x"), QInput(), keras.layers.Dropout(0.5)]), x)
    assert graph.outputs == ("x",) and not graph.nodes


def test_an_input_without_a_quantizer_is_refused():
    with pytest.raises(FreezeError, match="reaches arithmetic without a quantizer") as caught:
        freeze(keras.Sequential([keras.Input((4,)), keras.layers.ReLU(), QDense(2)]))
    assert "layer re_lu" in str(caught.value)


def test_all_unsupported_layers_are_named_at_once_with_the_nearest_that_would_do():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="plain"), keras.layers.ELU(name="leaky"), QDense(2)])
    with pytest.raises(FreezeError, match="2 layers of this model cannot be frozen") as caught:
        freeze(model)
    assert "plain (keras.src.layers.core.dense.Dense): use QDense" in str(caught.value)
    assert "leaky" in str(caught.value)


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(FreezeError, match="without a static graph"):
        freeze(Own())


def test_a_foreign_layer_enters_through_freezes(x):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return x + x

    @freezes(Twice)
    def twice(layer, b, value):
        return b.op("add", value, value)

    assert_exact(keras.Sequential([keras.Input((8,)), QDense(4), Twice(), QDense(2)]), x)


def test_a_file_freezes_to_the_same_graph(tmp_path, x):
    model = keras.Sequential([keras.Input((8,)), QDense(4, activation="relu"), QDense(2)], name="small")
    graph = freeze(model, x)
    model.save(tmp_path / "small.keras")
    np.savez(tmp_path / "x.npz", x=x)
    assert freeze_file(tmp_path / "small.keras", tmp_path / "x.npz").digest() == graph.digest()
    file.save(graph, tmp_path / "small.hgq")
    assert_exact(model, x, file.load(tmp_path / "small.hgq"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_keras_file_is_refused(tmp_path, content):
    path = tmp_path / "x.keras"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not a .keras file"):
        freeze_file(path)


def test_a_truncated_keras_file_is_refused(tmp_path):
    keras.Sequential([keras.Input((8,)), QDense(2)]).save(tmp_path / "whole.keras")
    content = (tmp_path / "whole.keras").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.keras").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(FileFormatError):
            freeze_file(tmp_path / "cut.keras")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_calibration_refuses_what_is_not_finite(x, bad):
    model = keras.Sequential([keras.Input((8,)), QDense(2)])
    x[7, 3] = bad
    with pytest.raises(DataError, match="finite") as caught:
        freeze(model, x)
    assert "(7, 3)" in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 7), (5, 8, 1), (8,), (0, 8)])
def test_calibration_refuses_wrong_shapes(shape):
    with pytest.raises(DataError):
        calibrate(keras.Sequential([keras.Input((8,)), QDense(2)]), np.zeros(shape))


def test_calibrated_ranges_are_just_wide_enough(x):
    model = keras.Sequential([keras.Input((8,)), QDense(2, input_quantizer="kif(f0=0, rounding=TRN)")])
    x = np.tile(np.array([3, -4, 4, 0, -1, 1, 7.5, -0.5], np.float32), (10, 1))
    assert calibrate(model, x) == 10
    fixed = model.layers[0].input_quantizer.format()
    assert fixed.i.tolist() == [2, 2, 3, 0, 0, 1, 3, 0]
    assert fixed.k.tolist() == [0, 1, 0, 0, 1, 0, 0, 1]


def test_sums_beyond_float32_are_announced(caplog):
    wide = {"kernel_quantizer": "kbi(b0=20, i0=2)", "input_quantizer": "kif(i0=4, f0=18)"}
    freeze(keras.Sequential([keras.Input((8,)), QDense(2, **wide)], name="wide"))
    assert "float32 holds 24" in caplog.text


def test_passes_do_not_add_ebops(x):
    model = keras.Sequential([keras.Input((8,)), QDense(16, activation="relu"), QDense(2)])
    graph = freeze(model, x)
    assert 0 < ebops_of(graph) <= total_ebops(model) == ebops_of(freeze(model, optimize=False))
