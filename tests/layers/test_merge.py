"""Merges: what they compute in Keras, golden and RTL, and what they cost, against loops."""

from __future__ import annotations

from functools import reduce

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import ConfigError, FreezeError
from hgq.estimate import ebops_by_node, ebops_of
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.ir.exactness import beyond_float32
from hgq.ir.graph import Graph
from hgq.layers import QAdd, QAverage, QConcatenate, QDense, QInput, QMaximum, QMinimum, QMultiply, QSubtract, quantizers, total_ebops
from hgq.passes import optimize
from hgq.resources import ebops
from hgq.verify import corner_samples
from hgq.verify.vectors import join

RNG = np.random.default_rng(3)
REFERENCE = {
    QAdd: lambda values: sum(values),
    QSubtract: lambda values: values[0] - values[1],
    QMaximum: lambda values: reduce(np.maximum, values),
    QMinimum: lambda values: reduce(np.minimum, values),
    QMultiply: lambda values: reduce(np.multiply, values),
    QAverage: lambda values: sum(values) / len(values),
    QConcatenate: lambda values: np.concatenate(values, axis=-1),
}
CASES = [
    *((layer, shapes) for layer in REFERENCE for shapes in ([(3,), (3,)], [(2, 3), (2, 3)])),
    *((layer, [(3,)] * 3) for layer in REFERENCE if layer is not QSubtract),
    *((layer, [(3,)] * 4) for layer in (QAdd, QAverage, QMaximum, QConcatenate)),
    *((layer, [(2, 3), (2, 1)]) for layer in REFERENCE),
    (QMultiply, [(1, 3), (2, 1)]),
]


def scatter(model: keras.Model) -> None:
    """Bits that differ from element to element, some of them none."""
    for quantizer in quantizers(model):
        for weight in quantizer.weights:
            if weight.name == "f":
                weight.assign(RNG.integers(-2, 5, weight.shape))
            elif weight.name == "i" and weight.trainable:
                weight.assign(RNG.integers(-1, 4, weight.shape))


def merge_model(merge, shapes, **given) -> keras.Model:
    inputs = [keras.Input(shape, name=f"x{number}") for number, shape in enumerate(shapes)]
    model = keras.Model(inputs, merge(**given)(inputs))
    scatter(model)
    return model


def samples(graph: Graph, n: int = 200) -> dict[str, np.ndarray]:
    """In range, far beyond it, and the corners."""
    data = {port.name: RNG.normal(scale=3, size=(n, *port.shape)).astype(np.float32).astype(np.float64) for port in graph.inputs}
    return join([data, {name: 5 * value for name, value in data.items()}, corner_samples(graph, n)])


def assert_all_equal(model: keras.Model, graph: Graph) -> dict[str, np.ndarray]:
    """Keras ≡ golden ≡ golden optimised ≡ RTL."""
    data = samples(graph)
    values = [data[port.name].astype(np.float32) for port in graph.inputs]
    expected = model(values if len(values) > 1 else values[0], training=False)
    golden = interpret.run(graph, data)
    optimised = interpret.run(optimize(graph), data)
    rtl = plugins.backend("rtl").comb_predict(graph, data)
    for name, value in zip(graph.outputs, expected if isinstance(expected, list) else [expected], strict=True):
        np.testing.assert_array_equal(golden[name], value)
        np.testing.assert_array_equal(optimised[name], value)
        np.testing.assert_array_equal(rtl[name], value)
    return data


def calibration(shapes) -> dict[str, np.ndarray]:
    return {f"x{number}": RNG.normal(scale=3, size=(100, *shape)) for number, shape in enumerate(shapes)}


@pytest.mark.parametrize(("merge", "shapes"), CASES, ids=str)
@pytest.mark.parametrize("quantizer", ["data", "kif(rounding=RND, overflow=SAT, granularity=channel)"])
def test_merges_are_exact_and_cost_what_loops_count(merge, shapes, quantizer):
    if merge is QConcatenate and shapes == [(2, 3), (2, 1)]:
        shapes = [(2, 3), (2, 2)]
    model = merge_model(merge, shapes, input_quantizers=quantizer)
    graph = freeze(model, calibration(shapes), optimize=False)
    data = assert_all_equal(model, graph)
    layer = model.layers[-1]
    assert layer.compute_output_shape([(None, *shape) for shape in shapes]) == model.output_shape
    if merge is not QAverage or len(shapes) != 3:
        quantized = [q(data[f"x{n}"]).numpy() for n, q in enumerate(layer.input_quantizers)]
        np.testing.assert_array_equal(interpret.run(graph, data)[graph.outputs[0]], REFERENCE[merge](quantized))
    bits = [q.format().broadcast_to(shape).width for q, shape in zip(layer.input_quantizers, shapes, strict=True)]
    assert float(layer.cost()) == loops(merge, bits) == ebops_of(graph)
    assert merge is QConcatenate or float(layer.cost()) > 0


def loops(merge, bits: list[np.ndarray]) -> int:
    """EBOPs, one element and one operation at a time, in Python's integers."""
    if merge is QConcatenate:
        return 0
    shape = np.broadcast_shapes(*(b.shape for b in bits))
    spread = [np.broadcast_to(b, shape) for b in bits]
    total = 0
    for index in np.ndindex(shape):
        row = [int(b[index]) for b in spread]
        while len(row) > 1:
            rest = []
            for a, b in zip(row[0::2], row[1::2], strict=False):
                total += a * b if merge is QMultiply else max(a, b)
                rest.append((a + b if a and b else 0) if merge is QMultiply else max(a, b))
            row = rest + row[len(rest) * 2 :]
        if merge is QAverage:  # 1/2 and 1/4 have one bit, 171/512 = 0b10101011 / 512 has eight
            total += row[0] * (8 if len(bits) == 3 else 1)
    return total


def test_formulas_are_the_same_on_tensors():
    import tensorflow as tf

    bits = [RNG.integers(0, 7, (4, 5)) for _ in range(3)]
    tensors = [tf.constant(b, tf.float32) for b in bits]
    for formula, merge in ((ebops.merged, QAdd), (ebops.product, QMultiply)):
        assert float(formula(tensors, total=tf.reduce_sum)[0]) == formula(bits)[0] == loops(merge, bits)


def test_the_cost_is_differentiable():
    import tensorflow as tf

    a, b = tf.Variable([3.0, 2.0, 0.0]), tf.Variable([1.0, 4.0, 5.0])
    with tf.GradientTape(persistent=True) as tape:
        added = ebops.merged([a, b], total=tf.reduce_sum)[0]
        cost, bits = ebops.product([a, b], total=tf.reduce_sum)
        width = tf.reduce_sum(bits)
    assert [g.numpy().tolist() for g in tape.gradient(added, [a, b])] == [[1, 0, 0], [0, 1, 1]]
    assert [g.numpy().tolist() for g in tape.gradient(cost, [a, b])] == [[1, 4, 5], [3, 2, 0]]
    assert [g.numpy().tolist()[:2] for g in tape.gradient(width, [a, b])] == [[1, 1], [1, 1]]


def residual_model(merge) -> keras.Model:
    """Two blocks with a skip around each, the second through the given merge."""
    x = inputs = keras.Input((6,), name="x0")
    x = QDense(8, activation="relu", name="stem")(x)
    h = QDense(8, activation="relu", name="first")(x)
    h = QDense(8, name="second")(h)
    x = keras.layers.ReLU()(QAdd(name="skip")([x, h]))
    h = QDense(8, activation="relu", name="third")(x)
    x = merge([x, h])
    model = keras.Model(inputs, [QDense(3, name="head")(x), QDense(2, name="other")(h)])
    scatter(model)
    for layer in model.layers:
        if isinstance(layer, QDense):  # dead neurons on one side of a skip, alive on the other
            layer.kernel.assign(RNG.normal(size=layer.kernel.shape) * (RNG.random(layer.kernel.shape) < 0.5))
            layer.kernel[:, RNG.integers(layer.units)].assign(np.zeros(layer.kernel.shape[0]))
            layer.bias.assign(RNG.normal(size=layer.bias.shape) * (RNG.random(layer.bias.shape) < 0.5))
    return model


@pytest.mark.parametrize(
    "merge",
    [*REFERENCE, *(getattr(keras.layers, name) for name in ("Add", "Subtract", "Maximum", "Minimum", "Average", "Concatenate"))],
    ids=lambda merge: merge.__name__,
)
def test_residual_models_stay_exact_through_all_passes(merge):
    model = residual_model(merge())
    graph = freeze(model, {"x0": RNG.normal(size=(200, 6))})
    assert_all_equal(model, graph)
    if merge.__name__.startswith("Q"):  # training does not charge Keras' own merges, the estimate does
        assert ebops_of(graph) <= total_ebops(model)


def test_a_model_trains_saves_and_loads(tmp_path):
    model = residual_model(QAdd(input_quantizers=["kif(f0=3)", "kif(f0=2, overflow=SAT)"], output_quantizer="data", name="sum"))
    model.compile("adam", ["mse", "mse"], jit_compile=False)
    x = RNG.normal(size=(64, 6)).astype(np.float32)
    before = [v.numpy() for v in model.get_layer("sum").trainable_variables]
    model.fit(x, [RNG.normal(size=(64, 3)), RNG.normal(size=(64, 2))], epochs=2, verbose=0)
    after = [v.numpy() for v in model.get_layer("sum").trainable_variables]
    assert len(before) == 4
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for a, b in zip(model.predict(x, verbose=0), loaded.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)
    assert total_ebops(loaded) == total_ebops(model)
    assert freeze(loaded).digest() == freeze(model).digest()


def test_a_stock_merge_of_products_is_exact_and_charged():
    inputs = [keras.Input((3,), name=f"x{n}") for n in range(2)]
    a, b = (QInput("kif(f0=2, i0=2, overflow=SAT)")(x) for x in inputs)
    model = keras.Model(inputs, keras.layers.Multiply()([keras.layers.Add()([a, b]), b]))
    graph = freeze(model, optimize=False)
    assert_all_equal(model, graph)
    assert list(ebops_by_node(graph).values()) == [3 * 5, 3 * 5 * 5]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"Wrong number of inputs(.*\n)+.*2\n.*3"):
        merge_model(QSubtract, [(3,)] * 3)
    with pytest.raises(ConfigError, match="takes a list of inputs"):
        QAdd()(keras.Input((3,)))
    with pytest.raises(ConfigError, match=r"cannot be merged(.*\n)+.*\(3,\), \(4,\)"):
        merge_model(QAdd, [(3,), (4,)])
    with pytest.raises(ConfigError, match="cannot be concatenated"):
        merge_model(QConcatenate, [(2, 3), (3, 2)])
    with pytest.raises(ConfigError, match="No such axis"):
        merge_model(QConcatenate, [(3,), (3,)], axis=2)
    with pytest.raises(ConfigError, match=r"As many quantizers as inputs(.*\n)+.*3 input_quantizers\n.*2"):
        merge_model(QAdd, [(3,)] * 3, input_quantizers=["data", "data"])
    with pytest.raises(ConfigError, match="needs its input_quantizers_1"):
        QAdd(input_quantizers=["data", None])
    inputs = [keras.Input((3,)) for _ in range(3)]
    with pytest.raises(FreezeError, match=r"no power of two(.*\n)+.*QAverage"):
        freeze(keras.Model(inputs, keras.layers.Average()([QInput()(x) for x in inputs])))


def test_what_float32_may_round_is_named():
    fine = "kif(f0=10, i0=4, overflow=SAT)"
    graph = freeze(merge_fixed(QMultiply, fine), optimize=False)
    assert beyond_float32(graph) == [
        "Layer merge: product may need 29 bits, float32 holds 24; "
        "Keras may round where hardware does not. Bound f and i of this layer's quantizers."
    ]
    assert not beyond_float32(freeze(merge_fixed(QAdd, fine), optimize=False))


def merge_fixed(merge, quantizer) -> keras.Model:
    inputs = [keras.Input((3,), name=f"x{number}") for number in range(2)]
    return keras.Model(inputs, merge(input_quantizers=quantizer, name="merge")(inputs))
