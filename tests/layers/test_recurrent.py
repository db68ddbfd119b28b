"""Recurrent layers against Keras' own, and through the whole chain."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError, FreezeError
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QGRU, QLSTM, QDense, QSimpleRNN, quantizers, total_ebops

RNG = np.random.default_rng(31)
FINE = "kif(i0=4, f0=14, overflow=SAT)"
WEIGHT = "kif(i0=3, f0=16, overflow=SAT)"
ARGUMENT = "kif(i0=4, f0=9, overflow=SAT)"
EVERYWHERE = dict(kernel_quantizer=WEIGHT, recurrent_quantizer=WEIGHT, bias_quantizer=WEIGHT, input_quantizer=FINE, pre_quantizer=ARGUMENT)
LSTM = dict.fromkeys(("gate_quantizer", "candidate_quantizer", "readout_quantizer", "cell_quantizer", "state_quantizer"), FINE)
GRU = dict.fromkeys(("gate_quantizer", "candidate_quantizer", "inner_quantizer", "reset_quantizer", "state_quantizer"), FINE)
PAIRS = {
    "rnn": (QSimpleRNN, keras.layers.SimpleRNN, {"state_quantizer": FINE}, {}),
    "lstm": (QLSTM, keras.layers.LSTM, LSTM, {}),
    "lstm_relu": (QLSTM, keras.layers.LSTM, LSTM, {"activation": "relu", "unit_forget_bias": False}),
    "gru": (QGRU, keras.layers.GRU, GRU, {}),
    "gru_before": (QGRU, keras.layers.GRU, GRU, {"reset_after": False, "activation": "relu"}),
    "gru_no_bias": (QGRU, keras.layers.GRU, GRU, {"use_bias": False}),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("options", [{"return_sequences": True}, {"go_backwards": True, "unroll": True}])
def test_with_fine_quantizers_they_are_those_of_keras(name, options):
    ours, theirs, fine, arguments = PAIRS[name]
    layer, twin = ours(5, **arguments, **options, **EVERYWHERE, **fine), theirs(5, **arguments, **options)
    x = RNG.normal(0, 1, (40, 7, 3)).astype(np.float32)
    twin(x)
    layer(x)
    for ours_, theirs_ in ((layer.kernel, twin.cell.kernel), (layer.recurrent_kernel, twin.cell.recurrent_kernel)):
        ours_.assign(theirs_)
    if layer.use_bias:
        twin.cell.bias.assign(RNG.normal(0, 0.5, twin.cell.bias.shape))
        layer.bias.assign(twin.cell.bias)
    np.testing.assert_allclose(layer(x), twin(x), atol=3e-3)


def test_the_forget_gate_starts_open():
    layer = QLSTM(3)
    layer.build((None, 2, 2))
    np.testing.assert_array_equal(layer.bias, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("make", [lambda **k: QSimpleRNN(3, **k), lambda **k: QGRU(3, **k), lambda **k: QLSTM(3, **k)])
def test_loop_and_unrolled_are_one_function(make):
    """Eager and compiled, with the range of every step covered after one training call."""
    x = RNG.normal(0, 1, (64, 12, 2)).astype(np.float32)
    keras.utils.set_random_seed(2)
    loop = make(return_sequences=True)
    trained = loop(x, training=True)
    unrolled = make(return_sequences=True, unroll=True)
    unrolled.build(x.shape)
    for target, source in zip(unrolled.variables, loop.variables, strict=True):
        target.assign(source)
    model = keras.Sequential([keras.Input((12, 2)), loop])
    expected = loop(x).numpy()
    np.testing.assert_array_equal(expected, unrolled(x))
    np.testing.assert_array_equal(expected, model.predict(x, verbose=0))
    np.testing.assert_array_equal(expected, trained)


def test_states_are_returned_and_frozen():
    x = keras.Input((4, 2))
    sequence, h, c = QLSTM(3, "hard_tanh", "hard_sigmoid", return_sequences=True, return_state=True)(x)
    assert (sequence.shape, h.shape, c.shape) == ((None, 4, 3), (None, 3), (None, 3))
    model = keras.Model(x, [keras.layers.Flatten()(sequence), h, QDense(2)(c)])
    data = RNG.normal(0, 1, (200, 4, 2)).astype(np.float32)
    model(data, training=True)
    graph = freeze(model, data)
    expected = model.predict(data, verbose=0)
    for golden, keras_ in zip(run(graph, data).values(), expected, strict=True):
        np.testing.assert_array_equal(golden, keras_)
    np.testing.assert_array_equal(expected[0][:, -3:], expected[1])


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [True, False])
def test_bidirectional(merge, sequences):
    x = keras.Input((4, 2))
    layer = keras.layers.Bidirectional(QSimpleRNN(2, "hard_tanh", return_sequences=sequences), merge_mode=merge)
    y = layer(x)
    model = keras.Model(x, y)
    data = RNG.normal(0, 1, (200, 4, 2)).astype(np.float32)
    model(data, training=True)
    graph = freeze(model, data)
    expected = model.predict(data, verbose=0)
    for golden, keras_ in zip(run(graph, data).values(), expected if merge is None else [expected], strict=True):
        np.testing.assert_array_equal(golden, keras_)
    assert total_ebops(model) == float(layer.forward_layer.cost()) + float(layer.backward_layer.cost())


def test_bidirectional_of_another_layer_is_refused():
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Bidirectional(keras.layers.SimpleRNN(2)), QDense(2)])
    with pytest.raises(FreezeError, match=r"QSimpleRNN, QGRU or QLSTM[\s\S]*SimpleRNN"):
        freeze(model)


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [True, False])
def test_a_sequence_is_learned(unroll):
    """Whether more of 20 signs were positive: needs all steps."""
    x = RNG.choice([-1.0, 1.0], (1024, 21, 1)).astype(np.float32)
    y = (x.sum((1, 2)) > 0).astype(np.int32)
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((21, 1)), QGRU(6, unroll=unroll, beta=1e-8), QDense(2, beta=1e-8)])
    model.compile(keras.optimizers.Adam(2e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(x, y, epochs=10, batch_size=64, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.9
    before = model.predict(x, verbose=0)
    assert (before.argmax(1) == y).mean() > 0.9  # no range wraps
    np.testing.assert_array_equal(next(iter(run(freeze(model), x).values())), before)


def test_the_penalty_on_bits_is_charged_once():
    layer = QSimpleRNN(2, "relu", state_quantizer="kif(i0=1, f0=3, overflow=SAT, l1=0.5)", beta=0.0)
    layer(np.zeros((3, 5, 2), np.float32), training=True)
    assert sum(map(float, layer.losses)) == 0.5 * 2 * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QGRU(0), "units is the number of outputs"),
        (lambda: QLSTM(2, stateful=True), r"stateful layer cannot[\s\S]*whole sequence"),
        (lambda: QLSTM(2, "sine-ish"), "Unknown activation"),
        (lambda: QLSTM(2, state_quantizer=None), "needs its state_quantizer"),
        (lambda: QSimpleRNN(2, "relu", state_quantizer=None), "quantizes the result of each"),
        (lambda: QLSTM(2).build((None, 3)), r"sequence of vectors[\s\S]*batch, steps, features"),
        (lambda: QLSTM(2).build((None, None, 3)), "static input shape"),
        (lambda: QSimpleRNN(2, "relu")(np.zeros((1, 2, 2)), initial_state=[np.zeros((1, 2))]), "starts at 0"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_all_steps_share_their_quantizers():
    layer = QLSTM(3)
    layer.build((None, 50, 2))
    assert {q.calls for q in quantizers(layer) if q is not layer.input_quantizer and not q.constant} == {50}
    assert {tuple(q.format().shape) for q in (layer.state_quantizer, layer.cell_quantizer)} == {(3,)}
