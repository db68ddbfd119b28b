"""The contract that every layer keeps, and the catalogue of layers that keep it.

A *row* of the catalogue is a layer (or several of one family), a *case* is one choice of its options. To add one, write in
``tests/rows/<family>.py``::

    row(
        "QDense",
        plain=Case(lambda: QDense(3), [(4,)], brute=dense_by_loops),
        per_tensor=Case(lambda: QDense(3, input_quantizer="data(granularity=tensor)"), [(4,)], brute=dense_by_loops),
    )

``tests/contract/test_<family>.py`` then checks each case with `check_layer` (a file a family, so that cores share them), and
``scripts/layer_table.py`` gives the row its line in ``docs/layers.md``, C simulation included. Nothing here looks at what a layer is:
all it knows is Keras, the graph and the backends.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import plugins
from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir.graph import Graph
from hgq.ir.interpret import run
from hgq.layers import QLayer, quantizers, set_beta, total_ebops
from hgq.passes import optimize
from hgq.quantizers import FixedQuantizer
from hgq.verify import corner_samples
from hgq.verify.vectors import join

BITS = ("b", "i", "f", "m", "e", "e0")
"""Names of the variables that hold bitwidths."""
IO_TYPES = ("io_parallel", "io_stream")
"""hls4ml's kinds of interface."""
CHECKED_BITS, CHECKED_IN_ALL = 4, 24
"""Elements of one bit variable, and of all in a layer, whose gradients are compared with differences; all would take minutes."""


@dataclass(frozen=True)
class Case:
    """One choice of options.

    Args:
        make: Makes the layer, or a list of layers of which the last is meant, or a function of Keras tensors to a tensor.
        shapes: Shape of each input, without batch.
        brute: EBOPs of the built layer counted by plain loops over scalars (not with `hgq.resources`); None for layers that cost nothing
            (the contract then checks that it is nothing).
        rtl: Expression that the RTL backend's refusal matches; None if it takes the case.
        io_parallel: The same for hls4ml with io_parallel.
        io_stream: The same for hls4ml with io_stream.
        scatter: Spread the bits of the elements at random; False for layers that need them as they are.
        charged: False for layers of Keras' own, which training does not charge though the estimate counts them.
        prepare: Called with the built model before anything is checked.
        scale: Standard deviation of the samples.
    """

    make: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]]
    brute: Callable[[Any], float] | None = None
    rtl: str | None = None
    io_parallel: str | None = None
    io_stream: str | None = None
    scatter: bool = True
    charged: bool = True
    prepare: Callable[[keras.Model], None] = lambda model: None
    scale: float = 2.0
    seed: int = 7

    def model(self) -> tuple[keras.Model, keras.layers.Layer]:
        """The case as a model with scattered variables, and the layer that is meant."""
        keras.utils.set_random_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        inputs = [keras.Input(shape, name=f"x{number}") for number, shape in enumerate(self.shapes)]
        layers = self.make()
        *before, layer = layers if isinstance(layers, list | tuple) else [layers]
        values: Any = inputs
        for earlier in before:
            values = [earlier(value) for value in values]
        model = keras.Model(single(inputs), layer(single(values)), name="case")
        model(self.batch(rng, 64), training=True)  # tracked ranges see data
        if self.scatter:
            scatter(model, rng)
        self.prepare(model)
        model(self.batch(rng, 64), training=True)
        return model, layer

    def batch(self, rng: np.random.Generator, samples: int) -> Any:
        """Random samples as the model takes them."""
        return single([rng.normal(0.3, self.scale, (samples, *shape)).astype(np.float32) for shape in self.shapes])


def single(values: list[Any]) -> Any:
    """The list, or its only element: what Keras calls a model with one input by."""
    return values if len(values) > 1 else values[0]


def scatter(model: keras.Model, rng: np.random.Generator) -> None:
    """Nothing is at its initial value by luck: bits differ from element to element, some weights are 0."""
    for quantizer in quantizers(model):
        for v in quantizer.trainable_variables:
            if v.name in BITS:
                v.assign(v.numpy() + rng.integers(-2, 2, v.shape) + rng.uniform(-0.4, 0.4, v.shape))
    for v in model.weights:
        if v.name in ("gamma", "moving_variance") and v.shape:
            v.assign(rng.uniform(0.4, 2.0, v.shape))
        elif v.name in ("bias", "beta", "offset", "moving_mean") and v.shape:
            v.assign(rng.normal(0, 0.5, v.shape))
        elif v.name.endswith("kernel") and v.shape:
            v.assign(v.numpy() * (rng.random(v.shape) < 0.85))


ROWS: dict[str, dict[str, Case]] = {}


def row(name: str, **cases: Case) -> None:
    """Put a layer into the catalogue, or more cases of one that is there."""
    ROWS.setdefault(name, {}).update(cases)


def catalogue() -> dict[str, dict[str, Case]]:
    """All rows, in alphabetical order of their files."""
    import importlib
    import pkgutil

    import tests.rows

    for module in sorted(pkgutil.iter_modules(tests.rows.__path__), key=lambda module: module.name):
        importlib.import_module(f"tests.rows.{module.name}")
    return ROWS


def contract_of(family: str) -> Callable[..., None]:
    """The test of all cases that ``tests/rows/<family>.py`` writes."""
    everything = [(name, label, case) for name, cases in catalogue().items() for label, case in cases.items()]
    chosen = [(name, label) for name, label, case in everything if case.make.__module__ == f"tests.rows.{family}"]

    @pytest.mark.parametrize(("name", "label"), chosen)
    def test_layer(name: str, label: str) -> None:
        check_layer(ROWS[name][label])

    return test_layer


# ---- the contract ----------------------------------------


@dataclass
class Subject:
    """A case, built and frozen: what the checks look at."""

    case: Case
    model: keras.Model = field(init=False)
    layer: keras.layers.Layer = field(init=False)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.layer = self.case.model()
        self.rng = np.random.default_rng(self.case.seed + 1)

    @cached_property
    def plain(self) -> Graph:
        """Frozen and calibrated, without passes."""
        data = self.case.batch(self.rng, 60)
        return freeze(self.model, data if isinstance(data, list) else [data], optimize=False)

    @cached_property
    def optimized(self) -> Graph:
        """After the passes: what backends are given."""
        return optimize(self.plain)

    @cached_property
    def data(self) -> dict[str, np.ndarray]:
        """Samples in range, far beyond it, and the corners of every port."""
        names = [port.name for port in self.plain.inputs]
        batch = self.case.batch(self.rng, 120)
        ordinary = dict(zip(names, batch if isinstance(batch, list) else [batch], strict=True))
        return join([ordinary, {name: 3 * value for name, value in ordinary.items()}, corner_samples(self.plain, 60)])

    @cached_property
    def golden(self) -> np.ndarray:
        """What the golden model gives for `data`."""
        (values,) = run(self.plain, self.data).values()
        return values


def check_layer(case: Case) -> Subject:
    """All of the contract but C simulation and Verilator; returns what was built, for further checks."""
    subject = Subject(case)
    check_shape_and_type(subject)
    check_cost(subject)
    check_gradients(subject)
    check_exact(subject)
    check_serialization(subject)
    check_backends(subject)
    check_training_step(subject)  # last: it moves the weights
    return subject


def check_shape_and_type(subject: Subject) -> None:
    """What comes out is what ``compute_output_shape`` and the symbolic call announce, in float32."""
    y = subject.model(subject.case.batch(subject.rng, 5), training=False)
    assert tuple(y.shape) == (5, *subject.model.output_shape[1:])
    assert y.dtype == tf.float32
    inputs = subject.layer.input
    shapes = [tuple(x.shape) for x in inputs] if isinstance(inputs, list | tuple) else tuple(inputs.shape)
    assert tuple(subject.layer.compute_output_shape(shapes)) == subject.model.output_shape


def check_serialization(subject: Subject) -> None:
    """The configuration rebuilds the layer; a saved and loaded model predicts the same bits."""
    config = subject.layer.get_config()
    assert type(subject.layer).from_config(config).get_config() == config
    with tempfile.TemporaryDirectory() as folder:
        subject.model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    batch = single([subject.data[port.name].astype(np.float32) for port in subject.plain.inputs])
    np.testing.assert_array_equal(loaded.predict(batch, verbose=0), subject.model.predict(batch, verbose=0))


def check_cost(subject: Subject) -> None:
    """What training charges is what the estimate counts on the frozen graph, and what loops over scalars count."""
    counted = ebops_of(subject.plain)  # freezing calibrates: only then are training's ranges the graph's
    charged = total_ebops(subject.model)
    if not subject.case.charged:
        assert charged == 0
        return
    if subject.case.brute is None:
        assert charged == 0 == counted
        return
    assert charged == counted, "training and estimate disagree"
    own = float(subject.layer.cost()) if isinstance(subject.layer, QLayer) else charged
    np.testing.assert_allclose(own, subject.case.brute(subject.layer), rtol=1e-6)
    assert own > 0


def check_gradients(subject: Subject) -> None:
    """The cost's gradient in each bitwidth lies between its left and its right difference.

    Where the cost is linear in a bitwidth these agree, and so must the gradient; at a maximum's kink and in a table's exponential it lies
    between. A bitwidth that n elements share has its gradient scaled by ``1/sqrt(n)`` (HGQ v1), which is undone here.
    """
    if subject.case.brute is None or not isinstance(subject.layer, QLayer):
        return
    found = []
    for quantizer in quantizers(subject.layer):
        if not isinstance(quantizer, FixedQuantizer):
            continue  # tests/quantizers has theirs: what a bit of a float costs is another question
        names = {variable.name for variable in quantizer.trainable_variables}
        for variable in quantizer.trainable_variables:
            if variable.name in BITS and not (quantizer.constant and variable.name == "i" and "b" in names):  # there i is no width
                found.append((quantizer, variable))
    for quantizer, variable in found:
        _check_gradient(subject, quantizer, variable, max(1, min(CHECKED_BITS, CHECKED_IN_ALL // len(found))))


def _check_gradient(subject: Subject, quantizer: FixedQuantizer, variable: keras.Variable, elements: int) -> None:
    cost = subject.layer.cost
    with tf.GradientTape() as tape, _Moved(quantizer) as unmoved:
        value = cost()
    gradient = tape.gradient(value, variable.value, unconnected_gradients="zero").numpy()
    for index in subject.rng.permutation(list(np.ndindex(*gradient.shape)))[:elements]:
        at, around = tuple(index), []
        for step in (-1, 0, 1):
            with _Moved(quantizer, variable, at, step):
                around.append(float(cost()))
        sides, slack = np.diff(around), 1e-4 * max(1.0, abs(around[1]))
        assert min(sides) - slack <= gradient[at] * unmoved.shared <= max(sides) + slack, (
            f"{variable.path}{list(at)}: cost {around} with one bit less, as it is, one more; gradient {gradient[at]} x {unmoved.shared}"
        )


class _Moved:
    """Inside, one bitwidth is `step` more: that of data by its variable.

    The bits of a constant are those between its leading and trailing one, whatever its bitwidth is, and their gradient is by definition
    that of a declared bit of each constant that is not 0: there the effective bits are moved themselves.

    Attributes:
        shared: Square root of the number of elements that share a bitwidth.
    """

    def __init__(self, quantizer: FixedQuantizer, variable: Any = None, at: tuple[int, ...] = (), step: int = 0) -> None:
        self.quantizer, self.variable, self.at, self.step, self.shared = quantizer, variable, at, step, 1.0

    def __enter__(self) -> _Moved:
        method = "effective_bits" if self.quantizer.constant else "bits"
        original = getattr(FixedQuantizer, method)

        def moved(quantizer: FixedQuantizer, first: Any, *rest: Any) -> Any:
            result = original(quantizer, first, *rest)
            if quantizer is not self.quantizer:
                return result
            widths = quantizer.trainable_variables[0].shape
            self.shared = float(np.sqrt(np.prod(result.shape) / np.prod(widths)))
            if self.variable is None or not quantizer.constant:
                return result
            one = np.zeros(widths, np.float32)
            one[self.at] = self.step
            return result + np.where(np.asarray(result) != 0, np.broadcast_to(one, result.shape), 0.0)  # 0 has no bits

        self._patch = mock.patch.object(FixedQuantizer, method, moved)
        self._patch.start()
        if self.variable is not None and not self.quantizer.constant:
            self._before = self.variable.numpy()
            after = self._before.copy()
            after[self.at] += self.step
            self.variable.assign(after)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._patch.stop()
        if self.variable is not None and not self.quantizer.constant:
            self.variable.assign(self._before)


def check_exact(subject: Subject) -> None:
    """Keras ≡ golden ≡ golden after the passes, on every sample, with no tolerance."""
    batch = single([subject.data[port.name].astype(np.float32) for port in subject.plain.inputs])
    expected = subject.model.predict(batch, verbose=0)
    np.testing.assert_array_equal(subject.golden, expected, err_msg="Keras and golden model differ")
    (after,) = run(subject.optimized, subject.data).values()
    np.testing.assert_array_equal(after, subject.golden, err_msg="a pass changed a value")
    assert np.unique(subject.golden).size > 1, "the output is constant: this tests nothing"


def check_backends(subject: Subject) -> None:
    """RTL computes the golden integers in alkaid's simulation; each backend takes the case or refuses it as the case says."""
    refusals = {"rtl": refusal(lambda: plugins.backend("rtl").emit(subject.optimized, Options()))}
    for io_type in IO_TYPES:
        refusals[io_type] = refusal(lambda io_type=io_type: lower_hls4ml(subject.optimized, {"io_type": io_type}))
    for backend, received in refusals.items():
        expected = getattr(subject.case, backend)
        if expected is None:
            assert not received, f"{backend} refuses: {received}"
        else:
            assert received, f"{backend} takes it, though the case says that it refuses: {expected}"
            assert re.search(expected, received), f"{backend} refuses, but not for {expected!r}: {received}"
    if not refusals["rtl"]:
        (rtl,) = plugins.backend("rtl").comb_predict(subject.optimized, subject.data).values()
        np.testing.assert_array_equal(rtl, subject.golden, err_msg="RTL and golden model differ")


def lower_hls4ml(graph: Graph, extra: Mapping[str, str]) -> None:
    """Take a graph through the rules of hls4ml, as far as needs no hls4ml."""
    from hgq.converters.hls4ml.lower import lower
    from hgq.converters.hls4ml.settings import Settings

    lower(graph, Settings.of(Options(extra=extra)))


def refusal(attempt: Callable[[], Any]) -> str:
    """What an attempt says that it cannot take; empty if it takes it."""
    try:
        attempt()
    except (LoweringError, ConfigError) as error:
        return str(error)
    return ""


def check_training_step(subject: Subject) -> None:
    """One step: every trainable variable gets a finite gradient, the cost is charged once, bits and weights move."""
    set_beta(subject.model, 1e-3)
    batch = subject.case.batch(subject.rng, 32)
    with tf.GradientTape() as tape:
        y = subject.model(batch, training=True)
        loss = tf.reduce_mean(tf.square(y - 1.0)) + sum(subject.model.losses)
    variables = subject.model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, f"{variable.path} gets no gradient"
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all(), f"{variable.path}: gradient not finite"
    if variables:
        assert any(np.any(tf.convert_to_tensor(g).numpy() != 0) for g in gradients)
    if subject.case.brute is not None and isinstance(subject.layer, QLayer):
        np.testing.assert_allclose(float(subject.layer.ebops), float(subject.layer.cost()), rtol=1e-6)
