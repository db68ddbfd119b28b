"""From what a user writes to a scheme."""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import fields
from typing import Any

from hgq.errors import ConfigError
from hgq.gradients.base import SCHEMES, Scheme, arguments

Identifier = str | Scheme | None

_CALL = re.compile(r"\s*([a-z]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)


def names() -> tuple[str, ...]:
    """What strings can name, ``"none"`` first."""
    return ("none", *sorted(SCHEMES))


def get(identifier: Identifier, where: str | None = None) -> Scheme | None:
    """The scheme that `identifier` means; None for full precision.

    Args:
        identifier: None, a `Scheme`, or a name with arguments of its class, as in ``"luq4"``, ``"luq4(samples=2)"`` or ``"hlq(rank=16)"``.
        where: Which argument of which layer it came from, for errors.

    Raises:
        ConfigError: it means nothing.
    """
    if identifier is None or isinstance(identifier, Scheme):
        return identifier
    match = _CALL.fullmatch(identifier) if isinstance(identifier, str) else None
    if match is None or match[1] not in names():
        close = difflib.get_close_matches(match[1] if match else "", names(), 1)
        raise ConfigError(
            "Not a way to compute gradients.",
            where=where,
            expected=f"None, a Scheme, or one of {', '.join(names())}, with arguments as in 'luq4(samples=2)'",
            received=repr(identifier),
            fix=f"Did you mean {close[0]!r}?" if close else None,
        )
    if match[1] == "none":
        return None
    make, given = SCHEMES[match[1]], _arguments(match[2] or "", identifier, where)
    known = [field.name for field in fields(make.scheme)]  # type: ignore[attr-defined]
    for name in given:
        if name not in known:
            raise ConfigError(f"{match[1]} has no argument {name!r}.", where=where, expected=", ".join(known), received=identifier)
    return make(**given)


def serialize(scheme: Scheme | None) -> str | None:
    """What `get` turns back into an equal scheme: the name without preset, with all arguments."""
    if scheme is None:
        return None
    name = next(name for name, make in SCHEMES.items() if make.scheme is type(scheme) and not make.preset)  # type: ignore[attr-defined]
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments(scheme).items())})"


def _arguments(text: str, identifier: str, where: str | None) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("positional arguments")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            "These arguments cannot be read.", where=where, expected="name=value, …, as in 'luq4(samples=2)'", received=identifier
        ) from error
