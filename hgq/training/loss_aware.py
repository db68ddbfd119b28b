"""Tell quantizers of weights what the optimizer knows of the curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from hgq.errors import ConfigError
from hgq.layers import qlayers
from hgq.layers.kernel import KernelLayer
from hgq.quantizers import LAQQuantizer
from hgq.training.curvature import curvature
from hgq.training.step import Gradients, Step, TrainStepMethod, register_step


@dataclass(frozen=True)
class Aware:
    """A loss-aware quantizer, its layer, and which of the model's trainable variables it quantizes."""

    quantizer: LAQQuantizer
    layer: KernelLayer
    number: int


def loss_aware(model: keras.Model) -> list[Aware]:
    """The loss-aware quantizers of trained kernels in `model`."""
    numbers = {id(variable): number for number, variable in enumerate(model.trainable_variables)}
    return [
        Aware(layer.kernel_quantizer, layer, numbers[id(layer.kernel)])
        for layer in qlayers(model)
        if isinstance(layer, KernelLayer) and isinstance(layer.kernel_quantizer, LAQQuantizer) and id(layer.kernel) in numbers
    ]


def hand_over(aware: list[Aware], curvatures: list[Any] | None) -> None:
    """Give each quantizer the curvatures of its kernel, arranged as the kernel is; None, of an optimizer without, changes nothing."""
    if curvatures is not None:
        for one in aware:
            one.quantizer.curvature.assign(one.layer.arranged(curvatures[one.number]))


@register_step("laq")
@dataclass(frozen=True)
class LossAware(TrainStepMethod):
    """Loss-aware quantization (LAQ, arXiv:1802.08635): Keras' own step, after which each `hgq.quantizers.LAQQuantizer` of a kernel gets
    the curvatures that the optimizer divided by. What `zigzag` is compared with.

    Raises:
        ConfigError: a model without such a quantizer.
    """

    def begin(self, model: keras.Model) -> Step:
        if not loss_aware(model):
            raise ConfigError(
                "No kernel of this model is quantized with regard to the loss.",
                where=f"model {model.name}",
                expected='kernel_quantizer="laq" or "laq(code_bits=2)"; in a recipe, weight = "laq" in a rule',
            )
        return LossAwareStep(model)


class LossAwareStep(Step):
    """`LossAware` at work."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        self._aware = loss_aware(model)

    def update(self, gradients: Gradients, again: Callable[[], Gradients]) -> None:
        self.model.optimizer.apply(gradients, self.model.trainable_variables)
        hand_over(self._aware, curvature(self.model.optimizer))
