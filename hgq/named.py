"""Frozen dataclasses that a user names by string, with arguments: ``"luq4(samples=2)"``, ``"zigzag(a=0.6)"``."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from hgq.errors import ConfigError

Thing = TypeVar("Thing")
ClassType = TypeVar("ClassType", bound=type)

_CALL = re.compile(r"\s*([a-z]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Entry(Generic[Thing]):
    """What one name means: a class, and arguments of it that are given."""

    cls: Callable[..., Thing]
    preset: dict[str, Any]

    def arguments(self) -> list[str]:
        """What the class takes."""
        return [one.name for one in fields(self.cls)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Registry(Generic[Thing]):
    """Names of the subclasses of `base`, all frozen dataclasses; ``"none"`` is nothing.

    Args:
        base: What is registered here.
        what: "a way to …", for errors.
        example: A string with arguments, for errors.
    """

    base: type[Thing]
    what: str
    example: str
    entries: dict[str, Entry[Thing]] = field(default_factory=dict)

    def register(self, name: str, **preset: Any) -> Callable[[ClassType], ClassType]:
        """Let strings name a class: ``@register("mine")``; with arguments, a preset of them. More than one name is fine."""

        def decorate(cls: ClassType) -> ClassType:
            self.entries[name] = Entry(cls, preset)
            return cls

        return decorate

    def names(self) -> tuple[str, ...]:
        """What strings can name, ``"none"`` first."""
        return ("none", *sorted(self.entries))

    def get(self, identifier: str | Thing | None, where: str | None = None) -> Thing | None:
        """What `identifier` means; None, ``"none"`` and nothing else are None.

        Args:
            identifier: None, an instance, or a name with arguments of its class.
            where: Where it came from, for errors.

        Raises:
            ConfigError: it means nothing.
        """
        if identifier is None or isinstance(identifier, self.base):
            return identifier
        match = _CALL.fullmatch(identifier) if isinstance(identifier, str) else None
        if match is None or match[1] not in self.names():
            close = difflib.get_close_matches(match[1] if match else "", self.names(), 1)
            raise ConfigError(
                f"Not {self.what}.",
                where=where,
                expected=f"None, a {self.base.__name__}, or one of {', '.join(self.names())}, with arguments as in {self.example!r}",
                received=repr(identifier),
                fix=f"Did you mean {close[0]!r}?" if close else None,
            )
        name, text = match[1], match[2] or ""
        if name == "none":
            return None
        entry, given = self.entries[name], self._arguments(text, str(identifier), where)
        known = entry.arguments()
        for argument in given:
            if argument not in known:
                raise ConfigError(f"{name} has no argument {argument!r}.", where=where, expected=", ".join(known), received=str(identifier))
        return entry.cls(**{**entry.preset, **given})

    def serialize(self, thing: Thing | None) -> str | None:
        """What `get` turns back into an equal one: the name without preset, with all arguments."""
        if thing is None:
            return None
        name = next(name for name, entry in self.entries.items() if entry.cls is type(thing) and not entry.preset)
        given = ", ".join(f"{one.name}={getattr(thing, one.name)!r}" for one in fields(thing))  # type: ignore[arg-type]
        return f"{name}({given})"

    def _arguments(self, text: str, identifier: str, where: str | None) -> dict[str, Any]:
        try:
            call = ast.parse(f"f({text})", mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError("positional arguments")
            return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        except (SyntaxError, ValueError) as error:
            raise ConfigError(
                "These arguments cannot be read.", where=where, expected=f"name=value, …, as in {self.example!r}", received=identifier
            ) from error
