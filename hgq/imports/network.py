"""What a model file says about a network: its layers, their calls and their configurations, whatever version of Keras wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hgq.errors import FileFormatError

Key = tuple[str, int, int]
"""A tensor: the layer it comes from, which call of that layer, which output of that call."""


@dataclass(frozen=True)
class Entry:
    """One layer.

    Args:
        name: Its name.
        class_name: Its class without package: ``"QDense"``.
        package: Where the class comes from: ``"keras"``, ``"qkeras"``, ``"hgq"``, ``"hgqc"`` or whatever the file says.
        config: Its configuration.
        calls: For each call the tensors that it reads.
        index: Its place in the list of layers.
        options: For each call what it was given by name, tensors as the file writes them.
    """

    name: str
    class_name: str
    package: str
    config: Mapping[str, Any]
    calls: tuple[tuple[Key, ...], ...]
    index: int
    options: tuple[Mapping[str, Any], ...] = ()

    def named(self, call: int) -> dict[str, tuple[Key, ...]]:
        """The tensors that a call was given by name."""
        given = self.options[call] if call < len(self.options) else {}
        return {name: keys for name, value in given.items() if (keys := tuple(_tensors(value)))}


@dataclass(frozen=True)
class Network:
    """A Sequential or functional model as a file describes it.

    Args:
        name: Its name.
        entries: Its layers, in the order of the file.
        inputs: The tensors that come in, each the output of an ``InputLayer``.
        outputs: The tensors that leave.
    """

    name: str
    entries: tuple[Entry, ...]
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]

    def calls(self) -> Iterator[tuple[Entry, int, tuple[Key, ...]]]:
        """Every call as (layer, number of the call, tensors it reads), each after those that it depends on."""
        known = set(self.inputs)
        pending = [(entry, number, keys) for entry in self.entries for number, keys in enumerate(entry.calls)]
        while pending:
            ready = [call for call in pending if all(_base(key) in {_base(other) for other in known} for key in call[2])]
            if not ready:
                names = ", ".join(entry.name for entry, *_ in pending)
                raise FileFormatError("Some layers are never reached from the inputs.", where=f"model {self.name}", received=names)
            for entry, number, keys in ready:
                yield entry, number, keys
                known.add((entry.name, number, 0))
            pending = [call for call in pending if call not in ready]


def _base(key: Key) -> tuple[str, int]:
    return key[:2]


def read(document: Mapping[str, Any], where: str) -> Network:
    """The network of a ``config.json``, of ``model.to_json()`` or of an HDF5 file's ``model_config``.

    Raises:
        FileFormatError: it describes no Sequential or functional model, or one with models in it.
    """
    kind, config = _plain_name(str(document.get("class_name"))), document.get("config")
    if kind not in ("Sequential", "Functional", "Model") or not isinstance(config, Mapping | list):
        raise FileFormatError(
            "This file describes no network of layers.",
            where=where,
            expected="a Sequential or functional Keras model",
            received=f"class {document.get('class_name')!r}",
            fix="Save a functional model: a subclass of keras.Model has its graph in Python code, which a file does not hold.",
        )
    if isinstance(config, list):  # Keras 2.0 kept a Sequential as its list of layers
        config = {"name": "sequential", "layers": config}
    listed = list(config["layers"])
    if kind == "Sequential":
        return _sequential(str(config.get("name", "sequential")), listed, config, where)
    entries = tuple(
        _entry(raw, index, tuple(_reads(node) for node in raw.get("inbound_nodes", [])), where) for index, raw in enumerate(listed)
    )
    inputs, outputs = (tuple(_keys(config[name])) for name in ("input_layers", "output_layers"))
    return Network(str(config.get("name", "model")), entries, inputs, outputs)


def _sequential(name: str, listed: list[Mapping[str, Any]], config: Mapping[str, Any], where: str) -> Network:
    if _plain_name(str(listed[0]["class_name"])) != "InputLayer":
        first = listed[0]["config"]
        shape = first.get("batch_input_shape") or first.get("batch_shape") or config.get("build_input_shape")
        if shape is None:
            raise FileFormatError(
                "This model has no input shape.",
                where=where,
                expected="an Input layer, or a built model",
                received=f"a Sequential that begins with {first.get('name')}",
                fix="Begin with keras.Input(shape), or call model.build((None, *shape)) before you save.",
            )
        listed = [{"class_name": "InputLayer", "config": {"name": f"{name}_input", "batch_shape": shape}, "implied": True}, *listed]
    entries, previous, index = [], None, 0
    for raw in listed:
        entry = _entry(raw, index, ((previous,),) if previous else (), where)
        index += not raw.get("implied", False)
        entries.append(entry)
        previous = (entry.name, 0, 0)
    return Network(name, tuple(entries), ((entries[0].name, 0, 0),), (previous,) if previous else ())


def _entry(raw: Mapping[str, Any], index: int, calls: tuple[tuple[Key, ...], ...], where: str) -> Entry:
    class_name, config = _plain_name(str(raw["class_name"])), raw["config"]
    if class_name in ("Sequential", "Functional", "Model"):
        raise FileFormatError(
            "A model inside a model cannot be imported.",
            where=f"{where}, layer {config.get('name')}",
            expected="layers",
            received=f"a {class_name}",
            fix="Connect its layers into the outer model before you save.",
        )
    options = tuple(node.get("kwargs") or {} if isinstance(node, Mapping) else {} for node in raw.get("inbound_nodes") or ())
    return Entry(str(raw.get("name") or config["name"]), class_name, _package(raw), config, calls, index, options)


def _package(raw: Mapping[str, Any]) -> str:
    """Whose class it is; files of Keras 2 do not say, unless it was registered."""
    for text in (raw.get("registered_name"), raw.get("class_name")):
        if text and ">" in str(text):
            return str(text).split(">")[0]
    return str(raw.get("module") or "keras").split(".")[0]


def _plain_name(name: str) -> str:
    return name.rpartition(">")[2]


def _reads(node: Any) -> tuple[Key, ...]:
    if isinstance(node, Mapping):
        return tuple(_tensors(node))
    return tuple((str(name), int(call), int(position)) for name, call, position, *_ in node)  # Keras 2


def _tensors(node: Any) -> Iterator[Key]:
    if isinstance(node, Mapping):
        if node.get("class_name") == "__keras_tensor__":
            name, call, position = node["config"]["keras_history"]
            yield str(name), int(call), int(position)
        else:
            for value in node.values():
                yield from _tensors(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _tensors(value)


def _keys(value: Any) -> Iterator[Key]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _keys(item)
    elif value and isinstance(value[0], str):
        yield str(value[0]), int(value[1]), int(value[2])
    else:
        for item in value:
            yield from _keys(item)
