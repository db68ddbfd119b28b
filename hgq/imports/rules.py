"""Which quantizers the layers of a converted model get."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hgq.errors import ConfigError
from hgq.quantizers import Identifier


@dataclass(frozen=True)
class LayerRule:
    """Formats for all layers that match; of several rules the first that matches counts, and only that one.

    Args:
        match: Regular expression, searched in the layer's name.
        layer: Class of the float layer, such as ``"Conv2D"``; None for any.
        weight: Quantizer of kernels; None for the default.
        bias: Of biases.
        data: Of what comes in.
        gradients: How the backward pass computes gradients, as `hgq.gradients.get` takes it; None for what `quantize_model` says.
        resource: ``"ebops"`` or ``"lut"``, likewise.

    Raises:
        ConfigError: `match` is no regular expression.
    """

    match: str = ""
    layer: str | None = None
    weight: Identifier = None
    bias: Identifier = None
    data: Identifier = None
    gradients: Any = None
    resource: str | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise ConfigError("This is no regular expression.", where="rule, match", received=f"{self.match!r} ({error})") from error

    def matches(self, name: str, layer: str) -> bool:
        """Whether it is for the layer of this name and class."""
        return bool(re.search(self.match, name)) and self.layer in (None, layer)


def as_rules(given: Sequence[LayerRule | Mapping[str, Any]]) -> tuple[LayerRule, ...]:
    """Rules from rules, or from mappings of their arguments.

    Raises:
        ConfigError: an argument that there is not.
    """
    known, rules = [item.name for item in dataclasses.fields(LayerRule)], list[LayerRule]()
    for number, rule in enumerate(given):
        if isinstance(rule, Mapping):
            for key in rule:
                if key not in known:
                    close = difflib.get_close_matches(key, known, 1)
                    raise ConfigError(
                        f"A rule has no {key!r}.",
                        where=f"rules[{number}]",
                        expected=", ".join(known),
                        received=repr(dict(rule)),
                        fix=f"Did you mean {close[0]!r}?" if close else None,
                    )
            rule = LayerRule(**rule)
        rules.append(rule)
    return tuple(rules)
