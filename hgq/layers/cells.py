"""Simple recurrent, gated recurrent and long short-term memory layers."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from hgq.layers.recurrent import QRecurrent
from hgq.quantizers import Identifier, serialize


@keras.saving.register_keras_serializable(package="hgqc")
class QSimpleRNN(QRecurrent):
    """``h <- state_quantizer(activation(x W + h U + b))``, as `keras.layers.SimpleRNN`.

    Args:
        units: Size of the state.
        activation: A name of `hgq.layers.activations`, or one that takes a table: of `hgq.layers.functions`, or a function of one tensor.
        state_quantizer: What `hgq.quantizers.get` takes, but not None; ``"auto"`` for what suits the activation.
        **kwargs: Those of `QRecurrent`.
    """

    def __init__(self, units: int, activation: Any = "tanh", *, state_quantizer: Identifier = "auto", **kwargs) -> None:
        super().__init__(units, **kwargs)
        self.state = self._part(activation, state_quantizer, "state")

    def parts(self):
        return [self.state]

    def held(self):
        return [self.state.quantizer]

    def step(self, a, x, states):
        return (a.apply(self.state, a.dense(a.concatenate(x, states[0]), "kernel"), "state"),)

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.state.identifier, "state_quantizer": serialize(self.state.quantizer)}


@keras.saving.register_keras_serializable(package="hgqc")
class QLSTM(QRecurrent):
    """Long short-term memory, as `keras.layers.LSTM`::

        i, f, o = gate_quantizer(recurrent_activation(x W + h U + b))    (one quantizer each)
        g = candidate_quantizer(activation(x W + h U + b))
        c <- cell_quantizer(f c + i g)
        h <- state_quantizer(o readout_quantizer(activation(c)))

    Args:
        units: Size of the state and of the cell.
        activation: As in `QSimpleRNN`.
        recurrent_activation: The same, of the gates.
        unit_forget_bias: Add 1 to the initial bias of the forget gate.
        gate_quantizer, candidate_quantizer, readout_quantizer: What `hgq.quantizers.get` takes, but not None; ``"auto"`` for what suits the
            activation.
        cell_quantizer, state_quantizer: The same, without ``"auto"``.
        **kwargs: Those of `QRecurrent`.
    """

    gates: ClassVar[int] = 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        unit_forget_bias: bool = True,
        gate_quantizer: Identifier = "auto",
        candidate_quantizer: Identifier = "auto",
        readout_quantizer: Identifier = "auto",
        cell_quantizer: Identifier = "data",
        state_quantizer: Identifier = "data",
        **kwargs,
    ) -> None:
        super().__init__(units, **kwargs)
        self.unit_forget_bias = bool(unit_forget_bias)
        self.input_gate = self._part(recurrent_activation, gate_quantizer, "input_gate")
        self.forget_gate = self._part(recurrent_activation, gate_quantizer, "forget_gate")
        self.candidate = self._part(activation, candidate_quantizer, "candidate")
        self.output_gate = self._part(recurrent_activation, gate_quantizer, "output_gate")
        self.readout = self._part(activation, readout_quantizer, "readout")
        self.cell_quantizer = self._required_quantizer(cell_quantizer, "data", "cell_quantizer")
        self.state_quantizer = self._required_quantizer(state_quantizer, "data", "state_quantizer")

    def parts(self):
        return [
            self.input_gate,
            self.forget_gate,
            self.candidate,
            self.output_gate,
            self.readout,
            self.cell_quantizer,
            self.state_quantizer,
        ]

    def held(self):
        return [self.state_quantizer, self.cell_quantizer]

    def step(self, a, x, states):
        h, c = states
        i, f, g, o = a.split(a.dense(a.concatenate(x, h), "kernel"), 4)
        i = a.apply(self.input_gate, i, "input_gate")
        f = a.apply(self.forget_gate, f, "forget_gate")
        g = a.apply(self.candidate, g, "candidate")
        o = a.apply(self.output_gate, o, "output_gate")
        c = a.quantize(self.cell_quantizer, a.add(a.product(f, c), a.product(i, g)), "cell")
        h = a.quantize(self.state_quantizer, a.product(o, a.apply(self.readout, c, "readout")), "state")
        return h, c

    def _initial_bias(self, shape, dtype=None):
        bias = super()._initial_bias(shape, dtype)
        if not self.unit_forget_bias:
            return bias
        parts = tf.split(tf.convert_to_tensor(bias), 4)
        return tf.concat([parts[0], tf.ones_like(parts[1]), *parts[2:]], 0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "activation": self.candidate.identifier,
            "recurrent_activation": self.input_gate.identifier,
            "unit_forget_bias": self.unit_forget_bias,
            "gate_quantizer": serialize(self.input_gate.quantizer),
            "candidate_quantizer": serialize(self.candidate.quantizer),
            "readout_quantizer": serialize(self.readout.quantizer),
            "cell_quantizer": serialize(self.cell_quantizer),
            "state_quantizer": serialize(self.state_quantizer),
        }


@keras.saving.register_keras_serializable(package="hgqc")
class QGRU(QRecurrent):
    """Gated recurrent unit, as `keras.layers.GRU`::

        z, r = gate_quantizer(recurrent_activation(x W + h U + b))    (one quantizer each)
        reset_after:  g = activation(x W + b + reset_quantizer(r inner_quantizer(h U + b')))
        otherwise:    g = activation(x W + b + reset_quantizer(r h) U)
        g = candidate_quantizer(g)
        h <- state_quantizer(g + z (h - g))

    The last line is Keras' ``z h + (1 - z) g``, with one product less.

    Args:
        units: Size of the state.
        activation: As in `QSimpleRNN`.
        recurrent_activation: The same, of the gates.
        reset_after: Whether the reset gate comes behind the matrix product, as in Keras.
        gate_quantizer, candidate_quantizer: What `hgq.quantizers.get` takes, but not None; ``"auto"`` for what suits the activation.
        inner_quantizer, reset_quantizer, state_quantizer: The same, without ``"auto"``; `inner_quantizer` only with `reset_after`.
        **kwargs: Those of `QRecurrent`.
    """

    gates: ClassVar[int] = 3
    products = ("gates", "inner", "candidate")  # without `reset_after` there is no inner one, and no use for what is chosen for it

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        reset_after: bool = True,
        gate_quantizer: Identifier = "auto",
        candidate_quantizer: Identifier = "auto",
        inner_quantizer: Identifier = "data",
        reset_quantizer: Identifier = "data",
        state_quantizer: Identifier = "data",
        **kwargs,
    ) -> None:
        super().__init__(units, **kwargs)
        self.reset_after = bool(reset_after)
        self.update_gate = self._part(recurrent_activation, gate_quantizer, "update_gate")
        self.reset_gate = self._part(recurrent_activation, gate_quantizer, "reset_gate")
        self.candidate = self._part(activation, candidate_quantizer, "candidate")
        self.inner_quantizer = self._required_quantizer(inner_quantizer, "data", "inner_quantizer") if reset_after else None
        self.reset_quantizer = self._required_quantizer(reset_quantizer, "data", "reset_quantizer")
        self.state_quantizer = self._required_quantizer(state_quantizer, "data", "state_quantizer")

    def parts(self):
        inner = [] if self.inner_quantizer is None else [self.inner_quantizer]
        return [self.update_gate, self.reset_gate, self.candidate, *inner, self.reset_quantizer, self.state_quantizer]

    def held(self):
        return [self.state_quantizer]

    def step(self, a, x, states):
        (h,) = states
        z, r = a.split(a.dense(a.concatenate(x, h), "gates"), 2)
        z, r = a.apply(self.update_gate, z, "update_gate"), a.apply(self.reset_gate, r, "reset_gate")
        if self.inner_quantizer is None:
            kept = a.quantize(self.reset_quantizer, a.product(r, h), "reset")
        else:
            kept = a.quantize(self.reset_quantizer, a.product(r, a.quantize(self.inner_quantizer, a.dense(h, "inner"), "inner")), "reset")
        g = a.apply(self.candidate, a.dense(a.concatenate(x, kept), "candidate"), "candidate")
        return (a.quantize(self.state_quantizer, a.add(g, a.product(z, a.subtract(h, g))), "state"),)

    def pieces(self, kernel, recurrent, bias, join, unit):
        two = 2 * self.units
        gates = (join(kernel[:, :two], recurrent[:, :two]), bias if bias is None else bias[:two])
        offset = bias if bias is None else bias[two : two + self.units]
        if not self.reset_after:
            return {"gates": gates, "candidate": (join(kernel[:, two:], recurrent[:, two:]), offset)}
        inner = (recurrent[:, two:], bias if bias is None else bias[two + self.units :])
        return {"gates": gates, "inner": inner, "candidate": (join(kernel[:, two:], unit), offset)}

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def arranged_bias(self):
        """The vector; with `reset_after`, where Keras has two, their sum for the gates, then both for the candidate."""
        bias = tf.convert_to_tensor(self.bias)
        if not self.reset_after:
            return bias
        two = 2 * self.units
        return tf.concat([bias[0, :two] + bias[1, :two], bias[0, two:], bias[1, two:]], 0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "activation": self.candidate.identifier,
            "recurrent_activation": self.update_gate.identifier,
            "reset_after": self.reset_after,
            "gate_quantizer": serialize(self.update_gate.quantizer),
            "candidate_quantizer": serialize(self.candidate.quantizer),
            "inner_quantizer": serialize(self.inner_quantizer) or "data",
            "reset_quantizer": serialize(self.reset_quantizer),
            "state_quantizer": serialize(self.state_quantizer),
        }
