"""Float recurrent layers, attention and layer normalisation as HGQ models: the same function, to within what the bits say."""

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.ir import interpret
from tests.imports.test_floats import data, relative_errors, settled

L = keras.layers


def recurrent(cls, **arguments):
    source = keras.Input((6, 4))
    return settled(keras.Model(source, L.Dense(3)(cls(8, **arguments)(source))))


def attention(causal=False):
    source = keras.Input((6, 8))
    other = L.Dense(8)(source)
    x = L.MultiHeadAttention(2, 4)(source, key=other, value=source, use_causal_mask=causal)
    x = L.LayerNormalization()(L.Add()([source, x]))
    return settled(keras.Model(source, L.Dense(3)(L.GlobalAveragePooling1D()(x))))


MODELS = {
    "attention": attention,
    "causal": lambda: attention(True),
    "simple": lambda: recurrent(L.SimpleRNN),
    "relu": lambda: recurrent(L.SimpleRNN, activation="relu", use_bias=False),
    "lstm": lambda: recurrent(L.LSTM),
    "gru": lambda: recurrent(L.GRU, go_backwards=True),
    "both ways": lambda: recurrent(lambda units, **k: L.Bidirectional(L.GRU(units, **k), merge_mode="sum"), use_bias=False),
    "gru, reset before": lambda: recurrent(L.GRU, reset_after=False, recurrent_activation="hard_sigmoid"),
}


@pytest.mark.parametrize("name", ["attention", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "attention")])
def test_errors_fall_as_two_to_the_minus_bits(name):
    model = MODELS[name]()
    errors = relative_errors(model, data(model))
    # as in test_floats; a softmax keeps its tables of 8 to 10 bits, hence the wider margin below
    assert errors[0] < 32 * 2**-8
    assert 6 < errors[0] / errors[1] < 32


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_freezes(name):
    keras.utils.set_random_seed(4)
    model = MODELS[name]()
    x = data(model, 400)
    y = np.asarray(model(x))
    converted = hgq.quantize_model(model, bits=6, calibration=x)
    converted.compile(keras.optimizers.Adam(1e-3), "mse")
    loss = converted.fit(x, y, batch_size=100, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and loss[-1] < 0.5 * y.var()
    graph = freeze(converted, x)
    np.testing.assert_array_equal(next(iter(interpret.run(graph, x).values())), np.asarray(converted(x, training=False)))


def test_what_has_no_quantized_kind_is_refused():
    source, mask, state = keras.Input((6, 8)), keras.Input((6, 6), dtype="bool"), keras.Input((5,))
    attend = L.MultiHeadAttention
    for inputs, output, text in [
        (source, L.LSTM(5, dropout=0.1, name="r")(source), r"(?s)layer r.*dropout=0.0.*Put a Dropout layer before it"),
        (source, L.GRU(5, return_state=True, name="r")(source)[0], r"(?s)layer r.*return_state=False.*return_sequences=True"),
        ([source, state], L.GRU(5, name="r")(source, initial_state=state), r"(?s)layer r.*Received: initial_state"),
        (
            [source, mask],
            attend(2, 3, name="a")(source, source, attention_mask=mask),
            r"(?s)layer a.*Received: attention_mask",
        ),
        (source, attend(2, 3, name="a")(source, source, return_attention_scores=True)[0], r"(?s)no result here.*layer a"),
        (source, L.Bidirectional(L.ConvLSTM1D(2, 2), name="b")(L.Reshape((6, 8, 1))(source)), r"(?s)layer b.*SimpleRNN"),
        (source, L.LSTM(2)(source + 1.0), r"(?s)not a layer.*keras.ops, Add.*keras.layers.Add"),
        (source, attend(2, 3, use_gate=True, name="a")(source, source), r"(?s)layer a.*use_gate=False.*Multiply"),
    ]:
        with pytest.raises(ConfigError, match=text):
            hgq.quantize_model(keras.Model(inputs, output))
