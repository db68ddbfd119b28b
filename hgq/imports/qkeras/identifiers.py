"""QKeras' quantizers as files write them: a dictionary, or a call in a string."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hgq.errors import ConfigError

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "quantized_bits": ("bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding", "scale_axis"),
    "quantized_linear": ("bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding", "scale_axis"),
    "quantized_relu": (
        "bits",
        "integer",
        "use_sigmoid",
        "negative_slope",
        "use_stochastic_rounding",
        "relu_upper_bound",
        "is_quantized_clip",
    ),
    "quantized_tanh": ("bits", "use_stochastic_rounding", "symmetric", "use_real_tanh"),
    "quantized_sigmoid": ("bits", "symmetric", "use_real_sigmoid", "use_stochastic_rounding"),
    "quantized_po2": ("bits", "max_value", "use_stochastic_rounding", "quadratic_approximation", "log2_rounding"),
    "quantized_relu_po2": ("bits", "max_value", "negative_slope", "use_stochastic_rounding", "quadratic_approximation", "log2_rounding"),
    "ternary": ("alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"),
    "stochastic_ternary": ("alpha", "threshold", "temperature", "use_real_sigmoid", "number_of_unrolls"),
    "binary": ("use_01", "alpha", "training", "use_stochastic_rounding", "scale_axis", "elements_per_scale"),
    "stochastic_binary": ("alpha", "temperature", "use_real_sigmoid"),
}
"""The quantizers that can be imported, and their arguments in order."""

DEFAULTS: dict[str, Any] = {
    "bits": 8,
    "integer": 0,
    "symmetric": False,
    "keep_negative": True,
    "use_sigmoid": False,
    "negative_slope": 0.0,
    "relu_upper_bound": None,
    "is_quantized_clip": True,
    "use_real_tanh": False,
    "use_real_sigmoid": False,
    "max_value": None,
    "quadratic_approximation": False,
    "log2_rounding": "rnd",
    "alpha": None,
    "threshold": None,
    "number_of_unrolls": 5,
    "use_01": False,
    "qnoise_factor": 1.0,
    "post_training_scale": None,
    "scale_axis": None,
    "elements_per_scale": None,
    "min_po2_exponent": None,
    "max_po2_exponent": None,
}
"""QKeras' defaults, where a quantizer has the argument at all. Of `quantized_linear` symmetric is True."""

UNSUPPORTED = ("scale_axis", "elements_per_scale", "min_po2_exponent", "max_po2_exponent")


@dataclass(frozen=True)
class QKerasQuantizer:
    """A quantizer of QKeras: its name and all its arguments.

    Args:
        name: Such as ``"quantized_bits"``.
        arguments: By name, defaults filled in.
        where: Layer and argument it was read from, for messages.
    """

    name: str
    arguments: Mapping[str, Any]
    where: str

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def automatic(self) -> bool:
        """Whether its scale is computed from the numbers that it quantizes."""
        return isinstance(self.arguments["alpha"], str)

    def trainable(self) -> QKerasQuantizer:
        """What QKeras makes of it when a layer takes it for its kernel: without an alpha it becomes ``auto_po2``, and symmetric."""
        scaled = ("quantized_bits", "quantized_linear", "ternary", "stochastic_ternary", "binary", "stochastic_binary")
        if self.name not in scaled or self["alpha"] is not None:
            return self
        return QKerasQuantizer(self.name, {**self.arguments, "alpha": "auto_po2", "symmetric": True}, self.where)

    def refused(self, what: str, expected: str, fix: str | None = None) -> ConfigError:
        """The error that says what of it cannot be had."""
        given = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items() if value != DEFAULTS.get(key, value))
        return ConfigError(what, where=self.where, expected=expected, received=f"{self.name}({given})", fix=fix)


def parse(identifier: Any, where: str) -> QKerasQuantizer | None:
    """The quantizer that a file means; None for none, and for ``"linear"``.

    Raises:
        ConfigError: a quantizer that is unknown, draws random numbers in inference, or has an argument that cannot be had.
    """
    if identifier is None or identifier == "linear":
        return None
    name, given = _call(identifier, where)
    if name not in ARGUMENTS:
        reasons = {
            "bernoulli": "It draws random numbers in inference, too. Train with binary(use_01=True) for the last epochs.",
            "quantized_ulaw": "Take quantized_bits.",
            "quantized_hswish": "Take quantized_relu.",
        }
        raise ConfigError(
            "This quantizer of QKeras has no equal here.",
            where=where,
            expected=", ".join(ARGUMENTS),
            received=name,
            fix=reasons.get(name, "Take one of those."),
        )
    defaults = {**DEFAULTS, "symmetric": name == "quantized_linear"}
    quantizer = QKerasQuantizer(name, {**defaults, **{key: _plain(value) for key, value in given.items()}}, where)
    for argument in UNSUPPORTED:
        if quantizer[argument] is not None:
            raise quantizer.refused(f"{argument} cannot be imported.", f"{argument}=None: one scale for each output channel")
    if quantizer["qnoise_factor"] != 1.0:
        raise quantizer.refused(
            "This quantizer mixes quantized and unquantized numbers.",
            "qnoise_factor=1.0",
            "Finish the schedule of qnoise_factor, or set it to 1, before you save.",
        )
    return quantizer


def _call(identifier: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(identifier, Mapping):
        name = str(identifier["class_name"]).rpartition(">")[2]
        config = identifier.get("config") or {}
        if name == "function" or isinstance(config, str):  # a plain function of Keras, such as relu
            return str(config), {}
        return name, dict(config)
    try:
        tree = ast.parse(str(identifier), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            name = tree.func.id
            positional = dict(zip(ARGUMENTS.get(name, ()), (ast.literal_eval(value) for value in tree.args), strict=False))
            return name, {**positional, **{str(item.arg): ast.literal_eval(item.value) for item in tree.keywords}}
    except (SyntaxError, ValueError):
        pass
    raise ConfigError("Not a quantizer of QKeras.", where=where, expected='such as "quantized_bits(6,2)"', received=repr(identifier))


def _plain(value: Any) -> Any:
    """A number that Keras wrapped, as a number: a NumPy scalar or array in its serialized form."""
    if isinstance(value, Mapping) and value.get("class_name") in ("__numpy__", "__tensor__"):
        return value["config"]["value"]
    return value
