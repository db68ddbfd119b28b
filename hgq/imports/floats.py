"""Float Keras models as HGQ models: the same weights, behind quantizers that can be trained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from hgq import gradients as schemes
from hgq import layers
from hgq.calibrate import calibrate
from hgq.errors import ConfigError
from hgq.imports.kinds import FOLDING, MAKERS, Part, no_kind
from hgq.imports.network import Entry, Key, read
from hgq.imports.rules import LayerRule, as_rules
from hgq.imports.sequences import call_arguments
from hgq.layers import qlayers
from hgq.layers.walk import quantizers
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer, Identifier
from hgq.stock import FREEZERS


def quantize_model(
    model: keras.Model,
    rules: Sequence[LayerRule | Mapping[str, Any]] = (),
    *,
    bits: int = 8,
    calibration: ArrayLike | Mapping[str, ArrayLike] | None = None,
    gradients: Any = None,
    resource: str = "ebops",
) -> keras.Model:
    r"""An HGQ model with the layers and weights of a float one, ready to train or, after a calibration, to freeze.

    Each weight starts with `bits` bits below its own magnitude, each tensor of data with `bits` bits below its range over the calibration
    data, so that the outputs' error falls as ``2**-bits``; both are then trained. A batch normalisation right behind a dense layer or a
    convolution without activation is folded into it, as hardware has it, and goes on learning.

    Args:
        model: A built Sequential or functional model; it stays as it is.
        rules: Other formats for some layers, gradients, resources: see `LayerRule`.
        bits: Of weights and data that no rule speaks of, sign included.
        calibration: Samples as `hgq.calibrate.calibrate` takes them; without them the first training step finds the ranges, around
            ``bits - 2`` fractional bits.
        gradients: How the backward pass of all products computes gradients, unless a rule says so.
        resource: What training charges: ``"ebops"`` or ``"lut"``.

    Raises:
        ConfigError: a layer that has no quantized kind; names it.
        DataError: bad calibration samples.
    """
    if isinstance(bits, bool) or not 2 <= bits <= 24:
        raise ConfigError("Numbers have from 2 to 24 bits here.", where="bits", expected="2 to 24", received=repr(bits))
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ConfigError(
            "Only a built Sequential or functional model can be converted.",
            where=f"model {getattr(model, 'name', model)!r}",
            expected="a model with inputs",
            received=type(model).__name__,
            fix="Begin with keras.Input(shape), and connect the layers as keras.Model(inputs, outputs) or keras.Sequential([...]).",
        )
    converter = Converter(model, as_rules(rules), bits, gradients, resource)
    made = converter.convert()
    if calibration is not None:
        calibrate(made, calibration)
        _fit_fractions(made, bits, converter.settled)
        calibrate(made, calibration)
    return made


def _fit_fractions(model: keras.Model, bits: int, settled: set[int]) -> None:
    """Give each tensor of data the fractional bits that `bits` leave below its range."""
    for quantizer in quantizers(model):
        if not isinstance(quantizer, FixedQuantizer) or not quantizer.tracks_range or id(quantizer) in settled:
            continue
        seen = np.asarray(quantizer._i)[0].astype(np.int64)
        highest = int(seen.max())
        f = int(np.clip(bits - int(np.max(np.asarray(quantizer._k))) - highest, *quantizer.f_bounds))
        if highest > quantizer.i_bounds[0]:  # else nothing but zeros came by
            quantizer.set_format(Fixed(np.asarray(quantizer._k)[0].astype(np.int64), seen, f))


@dataclass
class Converter:
    """One conversion: what the makers in `hgq.imports.kinds` ask."""

    model: keras.Model
    rules: tuple[LayerRule, ...]
    bits: int
    gradients: Any
    resource: str
    settled: set[int] = field(default_factory=set)
    """Data quantizers whose fractional bits a rule gave, by id."""
    _made: dict[str, list[Part]] = field(default_factory=dict)

    def convert(self) -> keras.Model:
        kind = "Sequential" if isinstance(self.model, keras.Sequential) else "Functional"
        network = read({"class_name": kind, "config": self.model.get_config()}, f"model {self.model.name}")
        values: dict[Key, Any] = {
            key: keras.Input(tuple(tensor.shape[1:]), name=tensor.name)
            for key, tensor in zip(network.inputs, self.model.inputs, strict=True)
        }
        inputs = [values[key] for key in network.inputs]
        raw = set(network.inputs)
        folded = self._folded(network)
        for entry, number, keys in network.calls():
            key = (entry.name, number, 0)
            if entry.class_name == "InputLayer":
                continue
            if entry.name in folded.values():  # its normalisation is in the layer before it
                values[key] = values[keys[0]]
                continue
            if entry.name not in self._made:
                norm = self.model.get_layer(folded[entry.name]) if entry.name in folded else None
                self._made[entry.name] = self._layers(entry, norm, any(part in raw for part in keys))
            if entry.class_name in ("Flatten", "Reshape") and keys[0] in raw:
                raw.add(key)
            operands, arguments = call_arguments(entry, number, keys)
            value: Any = [values[part] for part in operands]
            value = value[0] if len(value) == 1 else value
            for part in self._made[entry.name]:
                value, arguments = part.call(value, **arguments), {}
            values[key] = value
        outputs = [values[key] for key in network.outputs]
        whole = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs[0] if len(outputs) == 1 else outputs, name=self.model.name)
        if not qlayers(whole):
            raise ConfigError("No layer of this model has a quantized kind.", where=f"model {whole.name}", expected="Dense, Conv2D, …")
        return whole

    def _folded(self, network) -> dict[str, str]:
        """Layer -> the batch normalisation right behind it, where that alone reads it, once."""
        entries = {entry.name: entry for entry in network.entries}
        readers: dict[str, list[Entry]] = {}
        for entry in network.entries:
            for call in entry.calls:
                for name, *_ in call:
                    readers.setdefault(name, []).append(entry)
        found = {}
        for name, others in readers.items():
            entry = entries[name]
            plain = entry.config.get("activation", "linear") == "linear" and len(entry.calls) == 1
            if len(others) == 1 and others[0].class_name == "BatchNormalization" and entry.class_name in FOLDING and plain:
                last = len(self.model.get_layer(name).output.shape) - 1
                if others[0].config.get("axis", -1) in (-1, last) and (name, 0, 0) not in network.outputs and len(others[0].calls) == 1:
                    found[name] = others[0].name
        return found

    # ---- one layer ----------------------------------------

    def rule(self, entry: Entry) -> LayerRule:
        """The rule for a layer; one that says nothing, if none is."""
        return next((rule for rule in self.rules if rule.matches(entry.name, entry.class_name)), LayerRule())

    def weight(self, entry: Entry) -> Identifier:
        """Quantizer of its kernel."""
        default = f"weight(b0={self.bits - 1}, adapt_to_magnitude=True, i_bounds=(-4, 16))"
        return self.rule(entry).weight or default

    def bias(self, entry: Entry) -> Identifier:
        """Quantizer of its bias."""
        return self.rule(entry).bias or f"bias(f0={self.bits})"

    def data(self, entry: Entry) -> Identifier:
        """Quantizer of what comes in."""
        return self.rule(entry).data or f"data(f0={self.bits - 2})"

    def common(self, entry: Entry, cls: type, name: str | None = None) -> dict[str, Any]:
        """Arguments that every quantized layer takes."""
        rule = self.rule(entry)
        given: dict[str, Any] = {"name": name or entry.name, "resource": rule.resource or self.resource}
        takes = {parameter for base in cls.__mro__ if "__init__" in vars(base) for parameter in inspect.signature(base.__init__).parameters}
        scheme = rule.gradients if rule.gradients is not None else self.gradients
        if "gradients" in takes and scheme is not None:
            given["gradients"] = schemes.serialize(schemes.get(scheme, f"layer {entry.name}, gradients"))
        return given

    def _layers(self, entry: Entry, norm: Any, raw: bool) -> list[Part]:
        if entry.name not in {layer.name for layer in self.model.layers}:
            raise ConfigError(
                "This is an operation, not a layer.",
                where=f"{entry.name} of model {self.model.name}",
                expected="layers",
                received=f"keras.ops, {entry.class_name}",
                fix="Write it as a layer: keras.layers.Add()([a, b]) for a + b, keras.layers.Reshape(shape) for keras.ops.reshape.",
            )
        float_layer = self.model.get_layer(entry.name)
        maker = MAKERS.get(entry.class_name)
        if maker is None and type(float_layer) not in FREEZERS:
            expected = ", ".join(sorted({*MAKERS, *(cls.__name__ for cls in FREEZERS)}))
            raise no_kind("layer", entry.name, expected, f"{type(float_layer).__module__}.{entry.class_name}")
        made = [Part(type(float_layer).from_config(float_layer.get_config()))] if maker is None else maker(self, entry, float_layer, norm)
        if raw and not _quantizes(made[0].layer) and entry.class_name not in ("Flatten", "Reshape"):
            made = [Part(layers.QInput(self.data(entry), name=f"{entry.name}_input")), *made]
        if self.rule(entry).data is not None:
            for part in made:
                self.settled.update(id(quantizer) for quantizer in quantizers(part.layer) if not quantizer.constant)
        return made


def _quantizes(layer: keras.layers.Layer) -> bool:
    """Whether a layer quantizes what it reads."""
    quantizer = getattr(layer, "quantizer", None)
    if isinstance(layer, layers.QMultiHeadAttention | keras.layers.Bidirectional):
        return True
    if isinstance(layer, layers.QActivation):
        return layer.activation == "linear" and quantizer is not None
    return any(
        getattr(layer, name, None) is not None for name in ("input_quantizer", "input_quantizers", "quantizer", "depthwise", "table")
    )
