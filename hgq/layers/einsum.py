"""Quantized Einstein sums: of data with a kernel, and of data with data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import Identifier as GradientIdentifier
from hgq.ir import contraction
from hgq.layers.backward import BackwardPass
from hgq.layers.kernel import TENSORS, BiasedLayer, KernelLayer, NormalizedLayer
from hgq.layers.matrices import as_matrices
from hgq.layers.merge import QMerge
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class EinsumMap(KernelLayer):
    """The Einstein sum of `QEinsumDense`."""

    def __init__(self, equation: str, output_shape: int | Sequence[int | None], activation: str | None = None, **kwargs) -> None:
        super().__init__(activation=activation, **kwargs)
        self.equation = equation
        # Keras keeps `output_shape` for itself
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._parts, sizes = self._read(shape)
        return tuple(sizes[letter] for letter in self._parts.y)

    def positions(self, output_shape: tuple[int, ...]) -> int:
        sizes = zip(self._parts.out, output_shape, strict=True)
        return math.prod(size for letter, size in sizes if letter in self._parts.free_x)

    def spread(self, scale) -> Any:
        return tf.reshape(scale, [-1 if letter == self._parts.out[-1] else 1 for letter in self._parts.y])

    def linear(self, x, kernel, training=None) -> Any:
        left, right, product, back = as_matrices(self._parts, x, kernel, both=False)
        return back(product(left, right))

    def _product(self, backward: BackwardPass, x, kernel, training):
        left, right, product, back = as_matrices(self._parts, x, kernel, both=False)
        return back(backward.product(product, left, right, training))

    def linear_cost(self, bits_x, bits_kernel, bits_bias) -> Any:
        return ebops.einsum(bits_x, bits_kernel, bits_bias, TENSORS, equation=self._parts.equation, **self._turns)

    def linear_to_ir(self, b: GraphBuilder, x: Ref, kernel: Ref) -> Ref:
        parts = self._parts
        plain = (parts.free_x + parts.contracted, parts.contracted + parts.free_y, parts.free_x + parts.free_y)
        if (parts.x, parts.y, parts.out) == plain and len(parts.y) == 2:  # a dense layer, which every backend and pass knows best
            return b.op("matmul", x, kernel, name="matmul", **self._turns)
        return b.op("einsum", x, kernel, name="einsum", equation=parts.equation, **self._turns)

    def compute_output_shape(self, input_shape):
        parts, sizes = self._read(tuple(input_shape[1:]))
        return (input_shape[0], *parts.shape(sizes))

    def get_config(self) -> dict:
        return {**super().get_config(), "equation": self.equation, "output_shape": self.partial_output_shape}

    def _read(self, shape: tuple[int, ...]) -> tuple[contraction.Contraction, dict[str, int]]:
        """The equation without batch, and the size of each of its letters."""
        kernel = "".join(self.equation.split()).partition(",")[2].partition("->")[0]
        try:
            text = contraction.spelled_out(self.equation, len(shape) + 1, len(kernel))
            parts = contraction.read(without_batch(text, both=False))
        except ValueError as error:
            raise self._refused("This equation is none that a layer with a kernel can have.", str(error)) from error
        sizes = dict(zip(parts.x, shape, strict=True))
        # of an ellipsis `output_shape` says nothing: its axes are those of the input
        named = [letter for letter in parts.out if letter in self.equation]
        if len(named) == len(self.partial_output_shape):
            given = dict(zip(named, self.partial_output_shape, strict=True))
        elif len(parts.out) == len(self.partial_output_shape):
            given = dict(zip(parts.out, self.partial_output_shape, strict=True))
        else:
            raise self._refused("output_shape does not fit the equation.", f"{self.partial_output_shape} for {', '.join(named)}")
        for letter, size in given.items():
            if size is not None and sizes.setdefault(letter, int(size)) != size:
                raise self._refused("output_shape contradicts the input.", f"{size} for {letter}, which has {sizes[letter]} in the input")
        if missing := [letter for letter in parts.y if letter not in sizes]:
            raise self._refused("The size of an axis is known from nowhere.", f"None for {', '.join(missing)}")
        return parts, sizes

    def _refused(self, what: str, received: str) -> ConfigError:
        return ConfigError(
            what,
            where=f"layer {self.name}",
            expected='an equation such as "abc,cd->abd" or "...x,xy->...y": first axis the batch; output_shape without it',
            received=f"{received} (equation {self.equation!r})",
        )


@keras.saving.register_keras_serializable(package="hgqc")
class QEinsumDense(EinsumMap, BiasedLayer):
    """``activation(einsum(equation, input_quantizer(x), kernel_quantizer(kernel)) + bias_quantizer(bias))``, then `output_quantizer`.

    Args:
        equation: As in `keras.layers.EinsumDense`, with the batch as the first axis of input and output: ``"abc,cd->abd"``,
            ``"...x,xy->...y"``. Each axis of the kernel is contracted, shared with the input, or new.
        output_shape: Sizes of the output's axes without batch; without those of an ellipsis too. None where the input says it.
        activation: As in `QDense`.
        bias_axes: Axes of the output that the bias has, such as ``"d"``; None for no bias.
        **kwargs: Those of `BiasedLayer`, save ``use_bias``.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: str | None = None,
        bias_axes: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(equation, output_shape, activation, use_bias=bias_axes is not None, **kwargs)
        self.bias_axes = bias_axes

    def bias_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.bias_axes is None:
            return ()
        out = self._parts.out
        if not self.bias_axes or set(self.bias_axes) - set(out):
            raise self._refused("bias_axes names axes that the output does not have.", repr(self.bias_axes))
        first = min(out.index(letter) for letter in self.bias_axes)
        sizes = zip(out[first:], output_shape[first:], strict=True)
        return tuple(size if letter in self.bias_axes else 1 for letter, size in sizes)

    def get_config(self) -> dict:
        config = {**super().get_config(), "bias_axes": self.bias_axes}
        del config["use_bias"]  # bias_axes says it
        return config


@keras.saving.register_keras_serializable(package="hgqc")
class QEinsumDenseBatchNorm(EinsumMap, NormalizedLayer):
    """`QEinsumDense` with a batch normalisation of the last axis folded in; `NormalizedLayer` has the formula.

    Args:
        equation: As in `QEinsumDense`; the last axis of the output must be one of the kernel's.
        output_shape: As in `QEinsumDense`.
        activation: As in `QDense`.
        **kwargs: Those of `NormalizedLayer`, as in `QDenseBatchNorm`.

    Raises:
        ConfigError: an argument means nothing.
    """

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        kernel = super().kernel_shape(shape)
        if self._parts.out[-1:] not in tuple(self._parts.y):
            what = "The last axis of the output must be one of the kernel's, into which the normalisation is folded."
            raise self._refused(what, f"axis {self._parts.out[-1:] or '(none)'}")
        return kernel


class Pairing(QMerge):
    """Base of the layers that contract two data: a subclass says by which equation.

    Args:
        gradients: How the backward pass computes the gradients of both, as in `KernelLayer`; a `BackwardScheme` takes the first input for
            the data and the second for the kernel.
        gradient_seed: Of the random numbers of that.
        **kwargs: Those of `QMerge`.
    """

    inputs_wanted = 2

    def __init__(self, *, gradients: GradientIdentifier = None, gradient_seed: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.backward = BackwardPass(gradients, gradient_seed, self.name)

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self.backward.build(self)

    def _equation(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """The equation of inputs of these shapes, neither with batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no _equation().")

    def merge(self, values: list[Any], training=None):
        left, right, product, back = as_matrices(contraction.read(self._equation(self._shapes)), *values, both=True)
        y = back(self.backward.product(product, left, right, training))
        return tf.reshape(y, (-1, *self._merged_shape(self._shapes)))

    def cost(self):
        bits = [quantizer.bits(shape) for quantizer, shape in zip(self.input_quantizers, self._shapes, strict=True)]
        return ebops.einsum(*bits, None, TENSORS, equation=self._equation(self._shapes))

    def get_config(self) -> dict:
        return {**super().get_config(), **self.backward.config()}

    def merge_to_ir(self, b: GraphBuilder, refs: list[Ref]) -> Ref:
        equation, (x, y) = self._equation(self._shapes), refs
        if equation.endswith("->"):  # hardware has no value without axes: the first operand becomes one row
            row = next(letter for letter in contraction.ascii_letters if letter not in equation)
            x, equation = b.op("reshape", x, shape=(1, *x.shape)), f"{row}{equation}{row}"
        return b.op("einsum", x, y, name="einsum", equation=equation)

    def _merged_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        equation = self._equation(shapes)
        parts = contraction.read(equation)
        try:
            return parts.shape(parts.sizes(*shapes)) or (1,)
        except ValueError as error:
            raise self._refused("Inputs of these shapes cannot be contracted.", equation, str(error)) from error


@keras.saving.register_keras_serializable(package="hgqc")
class QEinsum(Pairing):
    """Einstein sum of two inputs, exact. Costs ``a * b`` EBOPs for every product.

    Args:
        equation: As in `keras.ops.einsum`, with the batch as the first axis of both inputs and of the output: ``"bqd,bkd->bqk"``,
            ``"...i,...i->..."``.
        **kwargs: Those of `QMerge`; ``gradients`` and ``gradient_seed``.

    Raises:
        ConfigError: an argument means nothing; at build time, inputs that do not fit the equation.
    """

    def __init__(self, equation: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.equation = equation

    def _equation(self, shapes: Sequence[tuple[int, ...]]) -> str:
        try:
            text = contraction.spelled_out(self.equation, *(len(shape) + 1 for shape in shapes))
            return contraction.read(without_batch(text, both=True)).equation
        except ValueError as error:
            expected = 'such as "bqd,bkd->bqk": first axis the batch, everywhere'
            raise self._refused("This equation is none for these inputs.", expected, str(error)) from error

    def get_config(self) -> dict:
        return {**super().get_config(), "equation": self.equation}


@keras.saving.register_keras_serializable(package="hgqc")
class QDot(Pairing):
    """Products of two inputs, summed over one axis of each, as `keras.layers.Dot`; exact. Costs ``a * b`` EBOPs for every product.

    The result has the axes of the first input, then those of the second, without the summed ones; one element if there are none.

    Args:
        axes: The axis of both, or one for each; batch included, so that the first that can be summed is 1.
        normalize: False. A cosine needs a root and a quotient: normalise with a table before.
        **kwargs: Those of `QMerge`; ``gradients`` and ``gradient_seed``.

    Raises:
        ConfigError: an argument means nothing; at build time, axes that do not fit each other.
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.axes = axes if isinstance(axes, int) else tuple(axes)
        pair = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        if len(pair) != 2 or any(not isinstance(axis, int) or axis == 0 for axis in pair):
            raise self._refused("axes names one axis of each input.", "an integer, or two, none of them the batch's 0", repr(axes))
        self._pair = pair
        if normalize:
            raise ConfigError(
                "A dot product cannot be normalised exactly.",
                where=f"layer {self.name}",
                expected="normalize=False",
                received="normalize=True",
                fix="Multiply each input with a table of its norm's inverse first, for instance QTable of rsqrt on a sum of squares.",
            )

    def _equation(self, shapes: Sequence[tuple[int, ...]]) -> str:
        letters, parts, start = contraction.ascii_letters, [], 1
        for shape, axis in zip(shapes, self._pair, strict=True):
            at = axis - 1 if axis > 0 else len(shape) + axis
            if not 0 <= at < len(shape):
                raise self._refused("No such axis.", f"1 to {len(shape)}", str(axis))
            free = letters[start : start + len(shape) - 1]
            start += len(free)
            parts.append((free[:at] + letters[0] + free[at:], free))
        (x, free_x), (y, free_y) = parts
        return f"{x},{y}->{free_x}{free_y}"

    def get_config(self) -> dict:
        return {**super().get_config(), "axes": self.axes}


def without_batch(equation: str, both: bool) -> str:
    """A spelled-out equation less its first axis, the batch, which the second operand shares if it is data (`both`).

    Raises:
        ValueError: the batch is not the first axis everywhere that data is.
    """
    operands, out = equation.split("->")
    x, y = operands.split(",")
    batch = x[:1]
    if not batch or out[:1] != batch or (both and y[:1] != batch) or (not both and batch in y):
        raise ValueError(f"the batch is not the first axis of all data in {equation}")
    return f"{x[1:]},{y[1:] if both else y}->{out[1:]}"
