"""`Shallow`: make a model's sums shorter until its RTL is within a latency.

The latency of an adder graph grows with its depth, and the depth of a sum with the logarithm of its terms: the signed digits of one
output's weights. Cost in EBOPs or LUTs is a sum over outputs and hardly sees the one output that is deepest. So depth is cut directly: now
and then the model is frozen and the fastest pipeline of its RTL found; while that is too slow, the layers with the longest sums lose the
smallest weights of their longest outputs, for good, and training makes up for them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgq.estimate import latency
from hgq.estimate.devices import Device
from hgq.estimate.plan import Cut
from hgq.layers import qlayers
from hgq.layers.kernel import KernelLayer
from hgq.quantizers import ops
from hgq.variables import read, write

log = logging.getLogger("hgq.training")

AIM = 0.97
"""Share of the latency asked for that is aimed at: bits that move a little must not miss it."""
MOST_STAGES = 64


class Masked(keras.constraints.Constraint):
    """Keeps pruned weights at 0 after every step.

    Args:
        mask: 1 where a weight may be; a `tf.Variable`.
        first: A constraint that comes before.
    """

    def __init__(self, mask: tf.Variable, first: Callable[[Any], Any] | None = None) -> None:
        self.mask, self.first = mask, first

    def __call__(self, w):
        """The masked weights."""
        return (self.first(w) if self.first is not None else w) * tf.convert_to_tensor(self.mask)


class Sums:
    """The sums of one layer with a kernel.

    Args:
        layer: Built.
    """

    def __init__(self, layer: KernelLayer) -> None:
        self.layer = layer
        kernel: Any = layer.kernel
        self.mask = tf.Variable(np.ones(kernel.shape, np.float32), trainable=False, name=f"{layer.name}_mask")
        kernel.constraint = Masked(self.mask, kernel.constraint)
        numbers = np.arange(np.prod(kernel.shape), dtype=np.int64).reshape(kernel.shape)
        arranged = np.asarray(layer.arranged(tf.constant(numbers, tf.float64)), np.int64)
        self._place = arranged.reshape(-1, arranged.shape[-1])  # (inputs, outputs) -> place in the kernel

    def digits(self) -> np.ndarray:
        """Signed digits of each weight as it would be frozen now, (inputs, outputs)."""
        return ops.signed_digits(self._quantized()).numpy().reshape(self._place.shape)

    def _quantized(self) -> Any:
        kernel, _ = self.layer.constants()
        return self.layer.kernel_quantizer(kernel, training=False)

    def longest(self) -> int:
        """Terms of the longest sum."""
        return int(self.digits().sum(0).max(initial=0))

    def cap(self, terms: int) -> int:
        """Prune the smallest weights of each output that has more terms; one weight always stays. Returns how many went."""
        digits, size = self.digits(), np.abs(self._quantized().numpy()).reshape(self._place.shape)
        gone: list[int] = []
        for output in np.nonzero(digits.sum(0) > terms)[0]:
            order = np.argsort(-size[:, output], kind="stable")
            alive = order[digits[order, output] > 0]
            keep = max(int(np.searchsorted(np.cumsum(digits[alive, output]), terms, side="right")), 1)
            gone += self._place[alive[keep:], output].tolist()
        mask = self.mask.numpy().reshape(-1)
        mask[gone] = 0.0
        self.put(mask.reshape(self.mask.shape))
        return len(gone)

    def put(self, mask: np.ndarray) -> None:
        """Set the mask, and the weights to it."""
        self.mask.assign(mask)
        kernel: Any = self.layer.kernel
        kernel.assign(kernel.numpy() * mask)


def depth_for(device: Device, lut: float, clock_ns: float, wanted_ns: float) -> float:
    """The depth, in additions, up to which some pipeline with this clock or a faster one takes no more than `wanted_ns`; 0 if none does."""

    def fastest(depth: float) -> float:
        periods = {n: latency.period(device, max(depth / n, 1.0), lut).value for n in range(1, MOST_STAGES)}
        reaching = {n: period for n, period in periods.items() if period <= clock_ns} or periods
        return min((n + 1) * period for n, period in reaching.items())

    low, high = 0.0, 1000.0
    if fastest(low) > wanted_ns:
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if fastest(middle) <= wanted_ns else (low, middle)
    return low


class Shallow(keras.callbacks.Callback):
    """Prunes towards a latency; logs ``latency_ns``.

    Args:
        model: Built.
        wanted_ns: From input to output.
        clock_ns: Longest clock period.
        device: The part.
        measure: ``measure()`` -> (fastest pipeline of the model as it would be frozen now or None without logic, depth in additions, LUTs).
        every: Epochs between two measurements.
        start: First epoch of one.
    """

    def __init__(
        self,
        model: keras.Model,
        wanted_ns: float,
        clock_ns: float,
        device: Device,
        measure: Callable[[], tuple[Cut | None, float, float]],
        *,
        every: int,
        start: int,
    ) -> None:
        super().__init__()
        self._model = model
        self.wanted_ns, self.clock_ns, self.device, self.measure = wanted_ns, clock_ns, device, measure
        self.every, self.start = max(every, 1), start
        self.sums = [Sums(layer) for layer in qlayers(model) if isinstance(layer, KernelLayer)]
        self.ns: float | None = None
        """Nanoseconds of the fastest pipeline, when last measured."""

    @property
    def met(self) -> bool:
        """Whether the last measurement was within the latency."""
        return self.ns is not None and self.ns <= self.wanted_ns

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self.start and (epoch - self.start) % self.every == 0:
            self.steer()
        if logs is not None and self.ns is not None:
            logs["latency_ns"] = self.ns

    def steer(self) -> None:
        """Measure, and prune where it is too slow."""
        cut, depth, lut = self.measure()
        self.ns = cut.ns if cut else 0.0
        if self.ns <= self.wanted_ns * (1 + AIM) / 2:
            return
        excess = depth - depth_for(self.device, lut, self.clock_ns, self.wanted_ns * AIM)
        pruned = self._shorten(max(math.ceil(excess / 2), 1))
        log.debug("%.1f ns, %.1f wanted: %.1f additions too deep, %d weights pruned.", self.ns, self.wanted_ns, excess, pruned)

    def _shorten(self, levels: int) -> int:
        """Take so many levels off the trees of additions, each off the deepest there is."""
        terms = [sums.longest() for sums in self.sums]
        caps = list(terms)
        for _ in range(levels):
            deepest = max(range(len(caps)), key=lambda n: caps[n], default=None)
            if deepest is None or caps[deepest] <= 1:
                break
            caps[deepest] = 2 ** (math.ceil(math.log2(caps[deepest])) - 1)
        return sum(sums.cap(cap) for sums, cap, before in zip(self.sums, caps, terms, strict=True) if cap < before)

    def smallest(self) -> float:
        """Nanoseconds of the model with a single weight for each output; leaves the model as it is."""
        before = read(self._model.variables)
        masks = [sums.mask.numpy() for sums in self.sums]
        for sums in self.sums:
            sums.cap(1)
        try:
            cut, _, _ = self.measure()
        finally:
            for sums, mask in zip(self.sums, masks, strict=True):
                sums.put(mask)
            write(self._model.variables, before)
        return cut.ns if cut else 0.0

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """All that changes, for a checkpoint."""
        return {"ns": self.ns}, [sums.mask.numpy() for sums in self.sums]

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`."""
        self.ns = state["ns"]
        for sums, mask in zip(self.sums, arrays, strict=True):
            sums.put(mask)
