"""What is compared."""

from __future__ import annotations

from dataclasses import dataclass

CONTENDERS = (
    "float/graph",
    "float/loop",
    "float/xla",
    "hgqc/native",
    "hgqc/loop",
    "hgqc/graph",
    "hgqc/xla",
    "hgq2/graph",
    "hgq2/xla",
    "hgq2/jax",
)
"""Kind and mode; the first is what all others are compared with."""


@dataclass(frozen=True)
class Case:
    """A network (``mlp`` or ``conv``), its batch, and what shares the bits of its data."""

    network: str
    batch: int
    granularity: str

    @property
    def name(self) -> str:
        return f"{self.network}-{self.batch}-{self.granularity}"


CASES = tuple(
    Case(network, batch, granularity)
    for granularity in ("element", "channel")
    for network, batch in (("mlp", 33_200), ("mlp", 2048), ("conv", 512))
)
