"""What a verification feeds: the samples one has, and those that find the bugs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgq.ir.graph import Graph, Input

Data = dict[str, NDArray[np.float64]]


def corner_samples(graph: Graph, random: int = 1000, seed: int = 0) -> Data:
    """Samples around every threshold of every port.

    In order: all ports at their lowest, at their highest, alternating, and zero; then, one element at a time over a random background,
    both ends of its range, zero and the rounding boundary, each with its neighbours one LSB (and half of one) away; then `random` samples
    uniform over the whole range and half as far again beyond both ends. All are exact in float32.

    Args:
        graph: Whose ports.
        random: How many random samples.
        seed: Of the random numbers.

    Returns:
        Real numbers by input name, shape (n, *port.shape), equally many for every port.
    """
    rng = np.random.default_rng(seed)
    ports = {port.name: _Port(port) for port in graph.inputs}
    rows: dict[str, list[NDArray]] = {name: [port.low, port.high, port.alternating(), port.low * 0] for name, port in ports.items()}
    for name, port in ports.items():
        for element in range(port.low.size):
            for value in port.thresholds(element):
                for other in ports:
                    background = ports[other].uniform(rng, 1, 1.0)[0]
                    if other == name:
                        background.flat[element] = value
                    rows[other].append(background)
    return {
        name: np.concatenate([np.stack(rows[name]), port.uniform(rng, random, 1.5)]).astype(np.float32).astype(np.float64)
        for name, port in ports.items()
    }


class _Port:
    """A port's range in real numbers."""

    def __init__(self, port: Input) -> None:
        self.low, self.high = port.format.value(port.format.low), port.format.value(port.format.high)
        self.lsb = np.exp2(-port.format.f)

    def alternating(self) -> NDArray[np.float64]:
        odd = np.arange(self.low.size).reshape(self.low.shape) % 2 == 1
        return np.where(odd, self.low, self.high)

    def thresholds(self, element: int) -> list[float]:
        low, high, lsb = (float(part.flat[element]) for part in (self.low, self.high, self.lsb))
        steps = [step * lsb for step in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        return sorted({threshold + step for threshold in (low, 0.0, high) for step in steps})

    def uniform(self, rng: np.random.Generator, samples: int, reach: float) -> NDArray[np.float64]:
        middle, half = (self.high + self.low) / 2, (self.high - self.low + self.lsb) / 2
        numbers = middle + reach * half * rng.uniform(-1, 1, (samples, *self.low.shape))
        return np.round(numbers / self.lsb * 8) * self.lsb / 8  # between the grid's points too, to see rounding


def join(parts: list[Data]) -> Data:
    """Samples one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
