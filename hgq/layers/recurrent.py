"""What the recurrent layers have in common; the cells are in `hgq.layers.cells`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq import quantizers, replicas
from hgq.errors import ConfigError
from hgq.gradients import serialize as serialize_scheme
from hgq.ir.trees import tree
from hgq.layers.backward import BackwardParts, Choice
from hgq.layers.base import QLayer, identifier_config, quantize_to_ir
from hgq.layers.dense import checked_units
from hgq.layers.step import Bits, Nodes, Nonlinearity, Tensors
from hgq.numerics import Fixed
from hgq.quantizers import Identifier, Quantizer, serialize

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QRecurrent(QLayer):
    """Base class of `QSimpleRNN`, `QGRU` and `QLSTM`: input (batch, steps, features), a cell applied step by step from a state of zeros.

    Hardware is unrolled: there is one copy of the cell for each step, and its EBOPs are charged for each; the first, whose state is 0,
    has no recurrent products. All steps share the weights and, for what is computed in them, the quantizers. The input's quantizer has bits
    for each element of each step with ``granularity="element"``, and for each feature with ``"channel"``.

    A subclass writes `step` once, with the methods of an interpreter of `hgq.layers.step`, and tells `parts`, `pieces` and `held`.

    Args:
        units: Size of the state.
        use_bias: Whether there is a bias.
        return_sequences: Return the state of every step, not only the last.
        return_state: Return the states after the last step as well.
        go_backwards: Begin with the last step; like in Keras, the sequence returned is in the order of computing.
        stateful: Not supported: hardware starts each sample anew.
        unroll: Whether training writes each step into TensorFlow's graph: quicker for a few steps, slow to start for many. Changes nothing
            else.
        kernel_quantizer, recurrent_quantizer, bias_quantizer, input_quantizer: What `hgq.quantizers.get` takes, but not None.
        pre_quantizer: The same, for the argument of each activation that takes a table.
        kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer,
            kernel_constraint, recurrent_constraint, bias_constraint: As in Keras.
        gradients: How the backward pass computes the gradients of the matrix products of each step, as in `KernelLayer`; or by their names
            (`products`). A scheme that remembers, such as ``luq4(scale='hindsight')``, needs `unroll`.
        gradient_seed: As in `KernelLayer`; each product of each step draws numbers of its own.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """

    gates: ClassVar[int] = 1
    """How many vectors of `units` sums a step computes."""

    products: ClassVar[tuple[str, ...]] = ("kernel",)
    """Names of the matrix products of a step: those of `pieces`."""

    stateful = False

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        kernel_quantizer: Identifier = "weight",
        recurrent_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        pre_quantizer: Identifier = "data",
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        gradients: Choice = None,
        gradient_seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checked_units(units, self.name)
        if stateful:
            raise ConfigError(
                "A stateful layer cannot be unrolled into hardware.",
                where=f"layer {self.name}",
                expected="stateful=False",
                received="stateful=True",
                fix="Give the whole sequence at once.",
            )
        self.use_bias, self.return_sequences, self.return_state = bool(use_bias), bool(return_sequences), bool(return_state)
        self.go_backwards, self.unroll = bool(go_backwards), bool(unroll)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.kernel_quantizer = self._required_quantizer(kernel_quantizer, "weight", "kernel_quantizer")
        self.recurrent_quantizer = self._required_quantizer(recurrent_quantizer, "weight", "recurrent_quantizer")
        self.bias_quantizer = self._required_quantizer(bias_quantizer, "bias", "bias_quantizer") if use_bias else None
        self._pre = serialize(quantizers.get(pre_quantizer, "data", "pre_quantizer"))
        self.backward = BackwardParts(gradients, gradient_seed, self.products, self.name)
        if not self.unroll and (name := next((name for name, s in self.backward.schemes.items() if s is not None and s.remembers), None)):
            raise ConfigError(
                "TensorFlow's loops cannot assign a variable in their backward pass, which this scheme needs.",
                where=f"layer {self.name}, gradients of {name}",
                expected="a scheme that remembers nothing, or unroll=True",
                received=str(serialize_scheme(self.backward.schemes[name])),
                fix="Set unroll=True.",
            )

    # ---- what a cell writes ----------------------------------------

    def step(self, a: Any, x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        """The next states, the output first, from the input and the states, with the methods of `a`."""
        raise NotImplementedError(f"{type(self).__name__} defines no step().")

    def parts(self) -> list[Nonlinearity | Quantizer]:
        """Everything that quantizes in a step."""
        raise NotImplementedError(f"{type(self).__name__} defines no parts().")

    def held(self) -> list[Quantizer]:
        """The quantizers that the states come from, in the order of the states."""
        raise NotImplementedError(f"{type(self).__name__} defines no held().")

    def pieces(self, kernel, recurrent, bias, join, unit) -> Mapping[str, tuple[Any, Any]]:
        """Kernel and bias (or None) of each matrix product of a step, by name, cut from the layer's constants.

        Args:
            kernel: (features, gates * units).
            recurrent: (units, gates * units).
            bias: As `arranged_bias` gives it, or None.
            join: Concatenates two along the first axis.
            unit: The identity, (units, units).
        """
        return {"kernel": (join(kernel, recurrent), bias)}

    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias variable."""
        return (self.gates * self.units,)

    def arranged_bias(self) -> Any:
        """The bias as it is quantized, a vector."""
        return tf.convert_to_tensor(self.bias)

    # ---- what follows ----------------------------------------

    def _part(self, activation: Any, quantizer: Identifier, name: str) -> Nonlinearity:
        return Nonlinearity(activation, self._pre, quantizer, owner=self.name, name=name)

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        if len(self._shape) != 2:
            raise ConfigError(
                "A recurrent layer reads a sequence of vectors.",
                where=f"layer {self.name}",
                expected="(batch, steps, features)",
                received=str(tuple(input_shape)),
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self._shape[-1], self.gates * self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, self.gates * self.units),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.input_quantizer.build(input_shape)
        self.kernel_quantizer.build_for(self.kernel)
        self.recurrent_quantizer.build_for(self.recurrent_kernel)
        if self.bias_quantizer is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=self.bias_shape(),
                initializer=self._initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
            self.bias_quantizer.build_for(self.arranged_bias())
        for part in self.parts():
            part.build((None, self.units))
        self._backward = {name: self.backward.part(name, "backwards" if self.go_backwards else "") for name in self.products}
        for name, backward in self._backward.items():
            backward.build(self, f"{name}_gradient")
        for quantizer in self._step_quantizers():
            quantizer.calls, quantizer.looped = self._shape[0], not self.unroll
        self.built = True

    def _step_quantizers(self) -> list[Any]:
        return [quantizer for part in self.parts() for quantizer in (part.quantizers if isinstance(part, Nonlinearity) else [part])]

    def _initial_bias(self, shape, dtype=None):
        return self.bias_initializer(shape, dtype)

    def call(self, inputs, training=None, initial_state=None):
        """Run all steps; in training, charge the cost. `initial_state` must be None: the state starts at 0."""
        if initial_state is not None:
            raise ConfigError("The state starts at 0.", where=f"layer {self.name}", expected="initial_state=None", received="a state")
        return super().call(inputs, training=training)

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        kernel, recurrent = (
            quantizer(tf.convert_to_tensor(constant), training=training)
            for quantizer, constant in ((self.kernel_quantizer, self.kernel), (self.recurrent_quantizer, self.recurrent_kernel))
        )
        bias = self.bias_quantizer(self.arranged_bias(), training=training) if self.bias_quantizer is not None else None
        pieces = self.pieces(kernel, recurrent, bias, lambda a, b: tf.concat([a, b], 0), tf.eye(self.units))
        products = {name: backward.products(training, uses=self._shape[0]) for name, backward in self._backward.items()}
        numbers = Tensors(pieces, training, products)
        states = tuple(tf.zeros((tf.shape(x)[0], self.units)) for _ in self.held())
        if training:
            for quantizer in self._step_quantizers():
                if getattr(quantizer, "l1", 0.0) and quantizer.calls > 1:
                    replicas.add_loss(self, quantizer.penalty())
        run = self._unrolled if self.unroll else self._looped
        outputs, states = run(tf.transpose(x, (1, 0, 2)), numbers, states)
        if training and not self.unroll:  # in a loop replicas could not meet
            for quantizer in self._step_quantizers():
                quantizer.agree()
        outputs = states[0] if outputs is None else tf.ensure_shape(tf.transpose(outputs, (1, 0, 2)), (None, self._shape[0], self.units))
        return (outputs, *states) if self.return_state else outputs

    def _unrolled(self, x, numbers: Tensors, states):
        outputs = []
        for count, time in enumerate(self._order()):
            states = self.step(numbers.at(count), x[time], states)
            outputs.append(states[0])
        return tf.stack(outputs) if self.return_sequences else None, states

    def _looped(self, x, numbers: Tensors, states):
        steps, order, sequence = self._shape[0], tf.constant(self._order()), self.return_sequences
        # XLA cannot take the gradient of an array that nothing is written to, so there is one only where it is wanted
        arrays = (tf.TensorArray(tf.float32, steps, element_shape=(None, self.units)),) if sequence else ()

        def body(count, states, arrays):
            states = self.step(numbers.at(count), tf.gather(x, order[count]), states)
            states = tuple(tf.ensure_shape(state, (None, self.units)) for state in states)
            return count + 1, states, tuple(array.write(count, states[0]) for array in arrays)

        _, states, arrays = tf.while_loop(lambda count, *_: count < steps, body, (0, states, arrays), maximum_iterations=steps)
        return arrays[0].stack() if sequence else None, states

    def _order(self) -> list[int]:
        return list(range(self._shape[0]))[:: -1 if self.go_backwards else 1]

    def quantized_constants(self) -> dict[str, Any]:
        return {
            "kernel_quantizer": self.kernel,
            "recurrent_quantizer": self.recurrent_kernel,
            "bias_quantizer": self.arranged_bias() if self.bias_quantizer is not None else None,
        }

    def cost(self):
        shape = (self._shape[0], self.units)
        order = self._order()
        constants = self.pieces(
            self.kernel_quantizer.effective_bits(self.kernel),
            self.recurrent_quantizer.effective_bits(self.recurrent_kernel),
            self.bias_quantizer.effective_bits(self.arranged_bias()) if self.bias_quantizer is not None else None,
            lambda a, b: tf.concat([a, b], 0),
            tf.eye(self.units),
        )
        alive = tf.constant(np.arange(shape[0])[:, None] > 0, tf.float32)  # before the first step, all states are 0
        bits = Bits(constants, shape)
        self.step(bits, tf.gather(self.input_quantizer.bits(self._shape), order), tuple(q.bits(shape) * alive for q in self.held()))
        return bits.total

    def _quantizer_costs(self) -> list[Any]:
        cost = self.input_quantizer.cost()  # those in the steps are in `cost`
        return [] if cost is None else [cost]

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Any:
        """The graph of all steps; several values with `return_state`."""
        (x,) = inputs
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        nodes = Nodes(b, self._constants_to_ir(b))
        first, *rest = (self._input_of(b, x, time) for time in self._order())
        nothing = b.constant(np.zeros((self._shape[1], self.units), np.int64), Fixed(0, 0, 0), name="zeros")
        zero = b.op("matmul", first, nothing, name="initial_state")
        states = self.step(nodes, first, tuple(zero for _ in self.held()))
        outputs = [states[0]]
        for value in rest:
            states = self.step(nodes, value, states)
            outputs.append(states[0])
        result = outputs[-1]
        if self.return_sequences:
            rows = [b.op("reshape", value, shape=(1, self.units)) for value in outputs]
            result = tree(lambda one, other: b.op("concatenate", one, other, axis=0), rows)
        return [result, *states] if self.return_state else result

    def _input_of(self, b: GraphBuilder, x: Ref, time: int) -> Ref:
        return b.op("reshape", b.op("take", x, axis=0, indices=(time,)), shape=self._shape[1:])

    def _constants_to_ir(self, b: GraphBuilder) -> dict[str, tuple[Ref, Ref | None]]:
        constants = [
            self.kernel_quantizer.quantized_constant(np.asarray(self.kernel)),
            self.recurrent_quantizer.quantized_constant(np.asarray(self.recurrent_kernel)),
        ]
        if self.bias_quantizer is not None:
            constants.append(self.bias_quantizer.quantized_constant(np.asarray(self.arranged_bias())))

        def cut(arrays, unit):
            bias = arrays[2] if len(arrays) > 2 else None
            return self.pieces(arrays[0], arrays[1], bias, lambda a, b: np.concatenate([a, b], 0), unit)

        mantissas = cut([m for m, _ in constants], np.eye(self.units, dtype=np.int64))
        fractions = cut([fixed.broadcast_to(m.shape).f for m, fixed in constants], np.zeros((self.units, self.units), np.int64))

        refs = {}
        for name, (kernel, bias) in mantissas.items():
            f_kernel, f_bias = fractions[name]
            weights = b.constant(kernel, Fixed(0, -f_kernel, f_kernel), name=name)
            refs[name] = weights, None if bias is None else b.constant(bias, Fixed(0, -f_bias, f_bias), name=f"{name}_bias")
        return refs

    def compute_output_shape(self, input_shape):
        state = (input_shape[0], self.units)
        output = (input_shape[0], input_shape[1], self.units) if self.return_sequences else state
        return (output, *(state for _ in self.held())) if self.return_state else output

    def get_config(self) -> dict:
        plain = ("units", "use_bias", "return_sequences", "return_state", "go_backwards", "unroll")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in plain},
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "recurrent_quantizer": serialize(self.recurrent_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer) or "bias",
            "input_quantizer": serialize(self.input_quantizer),
            "pre_quantizer": self._pre,
            **self.backward.config(),
            **identifier_config(
                kernel_initializer=self.kernel_initializer,
                recurrent_initializer=self.recurrent_initializer,
                bias_initializer=self.bias_initializer,
                kernel_regularizer=self.kernel_regularizer,
                recurrent_regularizer=self.recurrent_regularizer,
                bias_regularizer=self.bias_regularizer,
                kernel_constraint=self.kernel_constraint,
                recurrent_constraint=self.recurrent_constraint,
                bias_constraint=self.bias_constraint,
            ),
        }
