"""Attention, composed of the layers for kernels, Einstein sums and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers.backward import BackwardParts, Choice
from hgq.layers.base import QLayer, identifier_config
from hgq.layers.dense import checked_units
from hgq.layers.einsum import QEinsum, QEinsumDense
from hgq.layers.softmax import QSoftmax, serialize_given
from hgq.quantizers import Identifier

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

HEAD, SIZE, OUT = "h", "z", "o"
"""Letters of equations: of the heads, of the size of one head, of the outputs. The batch is ``B``."""
POSITIONS, OTHERS, FEATURES = "abcdefg", "pqrstuv", "x"
"""Of the query's positions, of the key's where they are others, and of the features."""


@keras.saving.register_keras_serializable(package="hgqc")
class QMultiHeadAttention(QLayer):
    """`keras.layers.MultiHeadAttention` in numbers that hardware has: projections, scores, softmax, weighted sums, output.

    ``layer(query, value, key=None, attention_mask=None, use_causal_mask=False)``, as in Keras: the key is the value unless given. Beyond
    Keras, the value is the query unless given, and the first three may come as one list. The factor ``1/sqrt(key_dim)`` is part of the
    softmax's table. A causal mask is known beforehand and costs nothing; an `attention_mask` (True: take part) is an input of the model,
    see `QSoftmax`.

    The parts are layers of their own: `query_dense`, `key_dense`, `value_dense`, `output_dense` (`QEinsumDense`), `scores`, `context`
    (`QEinsum`) and `softmax` (`QSoftmax`); EBOPs are the sum of theirs.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes: As in Keras.
        input_quantizer: Of query, key, value and the concatenated heads, each with one of its own; what `hgq.quantizers.get` takes.
        kernel_quantizer: Of the four kernels.
        bias_quantizer: Of the four biases.
        projected_quantizer: Of projected queries, keys and values.
        probability_quantizer: Of the softmax's result.
        softmax: Arguments of `QSoftmax` by name, save axis, input_scale, mask and output_quantizer.
        output_quantizer: Of the result; usually None: the next layer quantizes its input.
        gradients: How the backward pass computes the gradients of all products, as in `KernelLayer`, or of some, by the part that does
            them: ``{"scores": "luq4", "context": "luq4"}``.
        gradient_seed: As in `KernelLayer`; each part draws numbers of its own.
        beta: Loss per EBOP.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint: As in Keras.
        seed: Of the dropout.

    Raises:
        ConfigError: an argument means nothing.
    """

    products: ClassVar[tuple[str, ...]] = ("query_dense", "key_dense", "value_dense", "scores", "context", "output_dense")
    """The parts that do products."""

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        *,
        input_quantizer: Identifier = "data",
        kernel_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        projected_quantizer: Identifier = "data",
        probability_quantizer: Identifier = "data(f0=8)",
        softmax: Mapping[str, Any] | None = None,
        output_quantizer: Identifier = None,
        gradients: Choice = None,
        gradient_seed: int | None = None,
        beta: float | None = None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.backward = BackwardParts(gradients, gradient_seed, self.products, self.name)
        self.num_heads = checked_units(num_heads, self.name, "num_heads")
        self.key_dim = checked_units(key_dim, self.name, "key_dim")
        self.value_dim = self.key_dim if value_dim is None else checked_units(value_dim, self.name, "value_dim")
        self.dropout, self.use_bias, self.seed = float(dropout), bool(use_bias), seed
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape and tuple(output_shape)
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes and tuple(attention_axes)
        self._quantizers = {
            "input_quantizer": (input_quantizer, "data"),
            "kernel_quantizer": (kernel_quantizer, "weight"),
            "bias_quantizer": (bias_quantizer, "bias"),
            "projected_quantizer": (projected_quantizer, "data"),
            "probability_quantizer": (probability_quantizer, "data"),
            "output_quantizer": (output_quantizer, "data"),
        }
        self._constants = {
            "kernel_initializer": keras.initializers.get(kernel_initializer),
            "bias_initializer": keras.initializers.get(bias_initializer),
            "kernel_regularizer": keras.regularizers.get(kernel_regularizer),
            "bias_regularizer": keras.regularizers.get(bias_regularizer),
            "kernel_constraint": keras.constraints.get(kernel_constraint),
            "bias_constraint": keras.constraints.get(bias_constraint),
        }
        self._softmax = dict(softmax or {})
        self._causal: bool | None = None
        self._mask_shape: tuple[int | None, ...] | None = None
        self._drop = keras.layers.Dropout(self.dropout, seed=seed) if self.dropout else None

    # ---- the parts ----------------------------------------

    def build(self, query_shape, value_shape=None, key_shape=None) -> None:
        self._value_given, self._key_given = value_shape is not None, key_shape is not None
        query = tuple(query_shape)
        value = query if value_shape is None else tuple(value_shape)
        key = value if key_shape is None else tuple(key_shape)
        for shape in (query, value, key):
            self._positions_shape(shape)
        self._sequences = (query, key)
        q, kv, axes = self._letters(query, value, key)
        value, key = self._shortened(value), self._shortened(key)
        self.query_dense = self._projection("query_dense", q, self.key_dim, query)
        self.key_dense = self._projection("key_dense", kv, self.key_dim, key)
        self.value_dense = self._projection("value_dense", kv, self.value_dim, value)
        shared = "".join(letter for letter in q if letter in kv)
        rows, columns = ("".join(letter for letter in part if letter not in shared) for part in (q, kv))
        scored = f"B{shared}{HEAD}{rows}{columns}"
        given = {name: value for name, (value, _) in self._quantizers.items()}
        self.scores = QEinsum(
            f"B{q}{HEAD}{SIZE},B{kv}{HEAD}{SIZE}->{scored}",
            input_quantizers=given["projected_quantizer"],
            name="scores",
            **self.backward.arguments("scores"),
        )
        arguments = {**self._softmax, "axis": tuple(range(-axes, 0)), "input_scale": 1.0 / math.sqrt(self.key_dim), "name": "softmax"}
        self.softmax = QSoftmax(**arguments)
        self.context = QEinsum(
            f"{scored},B{kv}{HEAD}{SIZE}->B{q}{HEAD}{SIZE}",
            input_quantizers=[given["probability_quantizer"], given["projected_quantizer"]],
            name="context",
            **self.backward.arguments("context"),
        )
        outputs = query[-1:] if self.partial_output_shape is None else self.partial_output_shape
        self.output_dense = self._dense("output_dense", f"B{q}{HEAD}{SIZE}", f"{HEAD}{SIZE}", q, outputs, given["output_quantizer"])
        projected = [self.query_dense.compute_output_shape(query), self.key_dense.compute_output_shape(key)]
        self.scores.build(projected)
        self._score_shape = self.scores.compute_output_shape(projected)
        self.softmax.build(self._score_shape)
        pair = [self._score_shape, self.value_dense.compute_output_shape(value)]
        self.context.build(pair)
        self.output_dense.build(self.context.compute_output_shape(pair))
        self._set_masks()
        self.built = True

    def _letters(self, query, value, key) -> tuple[str, str, int]:
        """Letters of the positions of queries, of keys and values, and how many of them are attended over."""
        rank = len(query)
        given = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        axes = sorted({axis if axis > 0 else axis + rank for axis in given})
        same = all(len(shape) == rank for shape in (value, key)) and value[:-1] == key[:-1] and rank <= len(POSITIONS) + 2
        fits = same and all(query[axis] == key[axis] for axis in range(1, rank - 1) if axis not in axes)
        if rank < 3 or not axes or not fits or axes[0] < 1 or axes[-1] > rank - 2:
            raise ConfigError(
                "These inputs and axes do not fit together.",
                where=f"layer {self.name}",
                expected="query (batch, positions…, features), value and key of equal positions; attention_axes among the positions",
                received=f"query {query}, value {value}, key {key}, attention_axes {self.attention_axes}",
            )
        q = POSITIONS[: rank - 2]
        kv = "".join(OTHERS[at] if at + 1 in axes else letter for at, letter in enumerate(q))
        return q, kv, len(axes)

    def _projection(self, name: str, positions: str, size: int, shape: tuple[int, ...]) -> QEinsumDense:
        dense = self._dense(name, f"B{positions}{FEATURES}", FEATURES, positions, (self.num_heads, size), None, heads=True)
        dense.build(shape)
        return dense

    def _dense(self, name, operand, contracted, positions, sizes, output_quantizer, heads: bool = False) -> QEinsumDense:
        new = f"{HEAD}{SIZE}" if heads else "".join(chr(ord(OUT) - at) for at in range(len(sizes)))
        given = {name: value for name, (value, _) in self._quantizers.items()}
        return QEinsumDense(
            f"{operand},{contracted}{new}->B{positions}{new}",
            (*(None,) * len(positions), *sizes),
            bias_axes=new if self.use_bias else None,
            input_quantizer=given["input_quantizer"],
            kernel_quantizer=given["kernel_quantizer"],
            bias_quantizer=given["bias_quantizer"],
            output_quantizer=output_quantizer,
            name=name,
            **self._fresh_constants(),
            **self.backward.arguments(name),
        )

    def _fresh_constants(self) -> dict[str, Any]:
        """Initializers with a seed of their own must not be used twice."""
        return {
            name: thing.__class__.from_config(thing.get_config()) if isinstance(thing, keras.initializers.Initializer) else thing
            for name, thing in self._constants.items()
        }

    def _shortened(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a key or value as the projections see it."""
        return shape

    # ---- the function ----------------------------------------

    def __call__(self, query, value=None, key=None, attention_mask=None, use_causal_mask=False, **kwargs):
        """Attend; see the class. Whatever way the arguments were given, the model's graph has them in this order."""
        if isinstance(query, list | tuple):
            query, value, key = (*query, None, None)[:3]
        self._check_causal(bool(use_causal_mask))
        self._mask_shape = None if attention_mask is None else tuple(attention_mask.shape)
        if self.built:
            self._set_masks()
        return super().__call__(query, value, key, attention_mask, use_causal_mask=use_causal_mask, **kwargs)

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]  Keras' arguments
        self, query, value=None, key=None, attention_mask=None, use_causal_mask=False, training=None
    ):
        """As `__call__`."""
        value = query if value is None else value
        return super().call([query, value, value if key is None else key, attention_mask], training)

    def _check_causal(self, causal: bool) -> None:
        if self._causal not in (None, causal):
            raise ConfigError(
                "One layer cannot be causal in one call and not in another: its hardware is one.",
                where=f"layer {self.name}",
                expected=f"use_causal_mask={self._causal}, as before",
                received=str(causal),
            )
        self._causal = causal

    def _set_masks(self) -> None:
        """Tell the softmax about the masks of the call."""
        query, key = self._sequences
        if self._causal and self.softmax.mask is None:
            if len(query) != 3:
                raise ConfigError("A causal mask needs one axis of positions.", where=f"layer {self.name}", received=str(query))
            self.softmax.restrict(np.arange(query[1])[:, None] >= np.arange(key[1]))
        self.softmax.mask_shape = None if self._mask_shape is None else self._spread_shape(self._mask_shape)

    def forward(self, inputs, training=None):
        query, value, key, mask = inputs
        value, key = self._shorten(value, key, training)
        scores = self.scores.forward([self.query_dense.forward(query, training), self.key_dense.forward(key, training)], training)
        if mask is not None:
            scores = [scores, tf.reshape(mask, (-1, *self._spread_shape(tuple(mask.shape))[1:]))]
        probabilities = self.softmax.forward(scores, training)
        if self._drop is not None:
            probabilities = self._drop(probabilities, training=training)
        context = self.context.forward([probabilities, self.value_dense.forward(value, training)], training)
        return self.output_dense.forward(context, training)

    def _shorten(self, value, key, training=None) -> tuple[Any, Any]:
        """What is done to value and key before anything else."""
        return value, key

    def _spread_shape(self, shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """The shape of a mask (batch, shared positions…, query's, key's) with an axis for the heads."""
        axes = len(self.softmax.axis) * 2
        if len(shape) != len(self._score_shape) - 1:
            expected = f"rank {len(self._score_shape) - 1}: (batch, query positions, key positions)"
            raise ConfigError("The attention mask has another rank.", where=f"layer {self.name}", expected=expected, received=str(shape))
        return (*shape[: len(shape) - axes], 1, *shape[len(shape) - axes :])

    def cost(self):
        return sum((part.cost() for part in self._parts()), tf.zeros(()))

    def _parts(self) -> list[QLayer]:
        """The layers that it is made of, as often as their hardware is there."""
        return [self.query_dense, self.key_dense, self.value_dense, self.scores, self.softmax, self.context, self.output_dense]

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        query, *rest = inputs
        value = rest.pop(0) if self._value_given else query
        key = rest.pop(0) if self._key_given else value
        masks = [b.op("reshape", mask, shape=self.softmax.mask_shape[1:]) for mask in rest]
        value, key = self._shortened_to_ir(b, value, key)
        projected = [self._part_to_ir(b, *pair) for pair in ((self.query_dense, query), (self.key_dense, key))]
        probabilities = self._part_to_ir(b, self.softmax, self._part_to_ir(b, self.scores, *projected), *masks)
        context = self._part_to_ir(b, self.context, probabilities, self._part_to_ir(b, self.value_dense, value))
        return self._part_to_ir(b, self.output_dense, context)

    def _part_to_ir(self, b: GraphBuilder, part: QLayer, *inputs: Ref) -> Ref:
        with b.layer(part.name):
            return part.to_ir(b, *inputs)

    def _shortened_to_ir(self, b: GraphBuilder, value: Ref, key: Ref) -> tuple[Ref, Ref]:
        return value, key

    def compute_output_shape(  # pyright: ignore[reportIncompatibleMethodOverride]  Keras' arguments
        self, query_shape, value_shape=None, key_shape=None
    ):
        query_shape = tuple(query_shape[0] if isinstance(query_shape[0], list | tuple) else query_shape)
        outputs = query_shape[-1:] if self.partial_output_shape is None else self.partial_output_shape
        return (*query_shape[:-1], *outputs)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.partial_output_shape,
            "attention_axes": self.attention_axes,
            **{name: serialize_given(value, name, place) for name, (value, place) in self._quantizers.items()},
            "softmax": {
                name: serialize_given(value, name) if name.endswith("quantizer") else value for name, value in self._softmax.items()
            },
            "seed": self.seed,
            **self.backward.config(),
            **identifier_config(**self._constants),
        }
