"""MetaGrad: a hypernetwork corrects gradients, and the next step's loss trains it."""

from __future__ import annotations

import random as python_random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgq import gradients as schemes
from hgq.errors import ConfigError
from hgq.gradients import GradientQuantizer
from hgq.training.hypernetworks import HYPERNETWORKS
from hgq.training.step import Gradients, Step, TrainStepMethod, register_step, state


@register_step("metagrad")
@dataclass(frozen=True)
class MetaGrad(TrainStepMethod):
    """MetaGrad (arXiv:2303.02347), a reconstruction: of the paper only the abstract was at hand; the mechanism is that of MetaQuant (Chen
    et al., NeurIPS 2019), with the update in the straight-through form.

    A network M with parameters phi, shared by all kernels, corrects the gradients g, and the optimizer pi uses what it returns::

        W_t = W_(t-1) - rate * pi(M_phi(g_(t-1), W_(t-1)))

    W_t depends on phi, and so does step t's loss. Treating pi as the identity, and g and W as constants, its gradient is::

        dL_t / dphi = -rate * sum of g_t * dM_phi(g_(t-1), W_(t-1)) / dphi

    which needs no second derivatives and no further backward pass. phi is trained by its own Adam, right before W_(t+1) is formed.

    Gradients on few bits are the business of the layers: ``gradients="int4_rn"`` is the paper's, whose error is deterministic and so can be
    learned. Only kernels (variables whose names end in "kernel") go through M: biases have exact gradients, and bitwidths are updated the
    ordinary way. The method costs a network of `hidden` units for each weight in each step, more than the products of a small batch, and
    keeps the last gradient and the last value of each kernel.

    What to expect: with a learning rate that is too low it helps, with float32 gradients as much as with few bits; with one that is tuned
    it does not. ``network="scalar"`` is hypergradient descent, exactly.

    Args:
        network: M: ``"gate"``, ``"scalar"``, ``"fc"`` or ``"multifc"``; see `hgq.training.hypernetworks`. The first two start as the
            identity.
        hidden: Units of its hidden layer.
        rate: Learning rate of its Adam. MetaQuant's is 1e-3; the default is a tenth of it, chosen on the networks of docs/gradients.md: at
            1e-3 the factor on the gradients outgrows a tuned learning rate, and the conv net there loses four points.
        quantize_wgrad: A quantizer of gradients (``"int4_rn"``) for the kernels' own gradients, before M sees them; None leaves them.
            (Layers quantize the gradient of a product's result: what goes into a kernel's gradient, not what comes out.)
        seed: Of the initial parameters; None draws one, which `keras.utils.set_random_seed` decides.

    Raises:
        ConfigError: arguments that mean nothing; a model without kernels.
    """

    network: str = "gate"
    hidden: int = 100
    rate: float = 1e-4
    quantize_wgrad: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.network not in HYPERNETWORKS:
            raise ConfigError("metagrad has no such network.", expected=", ".join(HYPERNETWORKS), received=repr(self.network))
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, int) or self.hidden < 1:
            raise ConfigError("metagrad cannot have these hidden units.", expected="an integer from 1", received=repr(self.hidden))
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 <= self.rate < float("inf"):
            raise ConfigError("metagrad cannot have this rate.", expected="a number from 0", received=repr(self.rate))
        self.quantizer()

    def quantizer(self) -> GradientQuantizer | None:
        """What `quantize_wgrad` means."""
        known = schemes.get(self.quantize_wgrad, "metagrad, quantize_wgrad")
        if known is None or isinstance(known, GradientQuantizer):
            return known
        raise ConfigError(
            "This does not quantize a gradient element by element.",
            where="metagrad, quantize_wgrad",
            expected="a GradientQuantizer, such as int4_rn",
            received=repr(self.quantize_wgrad),
        )

    def begin(self, model: keras.Model) -> Step:
        return MetaGradStep(model, self)


class MetaGradStep(Step):
    """`MetaGrad` at work.

    Attributes:
        parameters: phi.
        kernels: Which of ``model.trainable_variables`` go through the network.
    """

    def __init__(self, model: keras.Model, method: MetaGrad) -> None:
        super().__init__(model)
        self.method, self._network, self._quantizer = method, HYPERNETWORKS[method.network], method.quantizer()
        weights = model.trainable_variables
        self.kernels = [number for number, variable in enumerate(weights) if variable.name.endswith("kernel")]
        if not self.kernels:
            raise ConfigError(
                "metagrad corrects the gradients of kernels, and this model trains none.",
                where=f"model {model.name}",
                expected='trainable variables whose names end in "kernel"',
                received=", ".join(sorted({variable.name for variable in weights})) or "no trainable variables",
            )
        dtype = weights[self.kernels[0]].dtype
        seed = python_random.randrange(2**31) if method.seed is None else method.seed
        initial = self._network.initial(method.hidden, np.random.default_rng(seed))
        self.parameters = [
            state(value.shape, f"phi_{number}", dtype, keras.initializers.Constant(value)) for number, value in enumerate(initial)
        ]
        self._adam = keras.optimizers.Adam(float(method.rate))
        self._adam.build(self.parameters)
        self._gradients = [state(weights[number].shape, "last_gradient", dtype) for number in self.kernels]
        self._weights = [state(weights[number].shape, "last_kernel", dtype) for number in self.kernels]
        self._rate = state((), "last_rate", dtype)
        self.variables += [*self.parameters, *self._adam.variables, *self._gradients, *self._weights, self._rate]

    def update(self, gradients: Gradients, again: Callable[[], Gradients]) -> None:
        model = self.model
        weights = model.trainable_variables
        now = [self._quantized(gradients[number], weights[number], place) for place, number in enumerate(self.kernels)]
        self._adam.apply(self.hypergradient(now), self.parameters)
        kernels = [tf.identity(tf.convert_to_tensor(weights[number])) for number in self.kernels]
        corrected = list(gradients)
        for number, gradient, kernel in zip(self.kernels, now, kernels, strict=True):
            corrected[number] = self._corrected([tf.convert_to_tensor(p) for p in self.parameters], gradient, kernel)
        self._rate.assign(tf.cast(model.optimizer.learning_rate, self._rate.dtype))
        model.optimizer.apply(corrected, weights)
        for variable, value in zip([*self._gradients, *self._weights], [*now, *kernels], strict=True):
            variable.assign(value)

    def hypergradient(self, gradients: list[Any]) -> list[Any]:
        """The gradient of this step's loss by the parameters, from its gradients by the kernels; 0 in the first step."""
        parameters = [tf.convert_to_tensor(parameter) for parameter in self.parameters]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            total = tf.add_n(
                [
                    tf.reduce_sum(now * self._corrected(parameters, tf.convert_to_tensor(last), tf.convert_to_tensor(kernel)))
                    for now, last, kernel in zip(gradients, self._gradients, self._weights, strict=True)
                ]
            )
        slopes = tape.gradient(total, parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [-tf.convert_to_tensor(self._rate) * slope for slope in slopes]

    def _corrected(self, parameters: list[Any], gradient: Any, kernel: Any) -> Any:
        flat = self._network.corrected(parameters, tf.reshape(gradient, (-1,)), tf.reshape(kernel, (-1,)))
        return tf.reshape(flat, tf.shape(gradient))

    def _quantized(self, gradient: Any, kernel: Any, place: int) -> Any:
        if gradient is None:  # a kernel that the loss does not depend on
            return tf.zeros_like(tf.convert_to_tensor(kernel))
        gradient = tf.convert_to_tensor(gradient)
        if self._quantizer is None:
            return gradient
        seed = tf.stack([tf.constant(place, tf.int32), tf.cast(self.model.optimizer.iterations, tf.int32)])
        return self._quantizer.quantize(gradient, seed)
