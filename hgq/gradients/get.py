"""From what a user writes to a scheme."""

from __future__ import annotations

from hgq.gradients.base import SCHEMES, Scheme

Identifier = str | Scheme | None


def names() -> tuple[str, ...]:
    """What strings can name, ``"none"`` first."""
    return SCHEMES.names()


def get(identifier: Identifier, where: str | None = None) -> Scheme | None:
    """The scheme that `identifier` means; None for full precision.

    Args:
        identifier: None, a `Scheme`, or a name with arguments of its class, as in ``"luq4"``, ``"luq4(samples=2)"`` or ``"hlq(rank=16)"``.
        where: Which argument of which layer it came from, for errors.

    Raises:
        ConfigError: it means nothing.
    """
    return SCHEMES.get(identifier, where)


def serialize(scheme: Scheme | None) -> str | None:
    """What `get` turns back into an equal scheme: the name without preset, with all arguments."""
    return SCHEMES.serialize(scheme)
