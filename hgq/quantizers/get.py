"""From what a user writes to a quantizer."""

from __future__ import annotations

import ast
import inspect
import re

import keras

from hgq.errors import ConfigError
from hgq.quantizers.base import QUANTIZERS, Quantizer
from hgq.quantizers.fixed import FixedQuantizer
from hgq.quantizers.places import PLACES

Identifier = str | dict | Quantizer | None

_CALL = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_ARGUMENT = re.compile(r"\s*(\w+)\s*=\s*(\([^()]*\)|[^,()]+?)\s*(?:,|$)")
_EXAMPLE = "kbi(b0=8, i0=2, rounding=RND, overflow=SAT_SYM, granularity=element)"


def get(identifier: Identifier, place: str | None = None, where: str | None = None) -> Quantizer | None:
    """The quantizer that `identifier` means; always a new one, since each layer owns its quantizers.

    Args:
        identifier: None; a quantizer (copied by its configuration, not its learned bits); a serialized one; or a string: a place
            (``"weight"``, ``"bias"``, ``"data"``: the defaults there) or a kind (``"kif"``, ``"kbi"``, ``"binary"``, ``"ternary"``,
            ``"minifloat"``, ``"po2"``, or one registered with `hgq.quantizers.register_quantizer`), optionally with arguments of its
            class, as in ``"kbi(b0=8, i0=2, overflow=SAT_SYM)"``.
        place: Where it will sit; fills in what is left open.
        where: Name of the argument that it came from: names the copy, and the place in an error message.

    Raises:
        ConfigError: it means nothing, or belongs elsewhere.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        quantizer = _parse(identifier, where)
        if quantizer.place is None and place is None:
            return quantizer
    elif isinstance(identifier, dict):
        try:
            quantizer = keras.saving.deserialize_keras_object(identifier)
        except (TypeError, KeyError, ValueError) as error:
            raise _unknown(identifier, where) from error
    else:
        quantizer = identifier
    if not isinstance(quantizer, Quantizer):
        raise _unknown(identifier, where)
    config = quantizer.get_config() if place is None else quantizer.config_at(place)
    try:
        return type(quantizer).from_config({**config, "name": where or config["name"]})
    except TypeError as error:
        if isinstance(error.__context__, ConfigError):  # Keras buries it under the whole configuration
            raise error.__context__ from None
        raise


def serialize(quantizer: Quantizer | None) -> dict | None:
    """What `get` turns back into an equal quantizer. Its shape is left out: the layer that owns it builds it.

    Nor may Keras note it as an object that several layers share: it goes by `id`, and some quantizers (those that a layer resolves only
    when it is built) live no longer than this call, so that the next one may have the same `id`.
    """
    if quantizer is None:
        return None
    config = keras.saving.serialize_keras_object(quantizer)
    return {key: value for key, value in config.items() if key not in ("build_config", "shared_object_id")}


def _parse(text: str, where: str | None) -> Quantizer:
    match = _CALL.fullmatch(text)
    if match is None or match[1] not in (*PLACES, *QUANTIZERS):
        raise _unknown(text, where)
    name, rest = match[1], match[2] or ""
    cls = QUANTIZERS.get(name, FixedQuantizer)
    known = [parameter for parameter in inspect.signature(cls).parameters if parameter not in ("parametrization", "kwargs")]
    arguments: dict = {"place": name} if name in PLACES else {"parametrization": name} if cls is FixedQuantizer else {}
    position = 0
    while position < len(rest.rstrip()):
        argument = _ARGUMENT.match(rest, position)
        if argument is None:
            raise _unknown(text, where)
        if argument[1] not in known:
            raise ConfigError(f"A quantizer has no argument {argument[1]!r}.", where=where, expected=", ".join(known), received=text)
        arguments[argument[1]] = _value(argument[2])
        position = argument.end()
    return cls(**arguments)


def _value(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # RND, SAT_SYM, element: words


def _unknown(identifier, where: str | None) -> ConfigError:
    return ConfigError(
        "Not a quantizer.",
        where=where,
        expected=f'"{_EXAMPLE}", one of {", ".join(map(repr, (*PLACES, *QUANTIZERS)))}, a Quantizer, its configuration, or None',
        received=repr(identifier),
    )
