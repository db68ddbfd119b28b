"""The layer that looks a function up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from hgq.layers.base import QLayer
from hgq.layers.function_table import FunctionTable
from hgq.quantizers import Identifier

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QTable(QLayer):
    """``output_quantizer(fn(input_quantizer(x)))``, element by element: one lookup table each.

    Both widths are trained; what they cost is `hgq.resources.ebops.table`: it doubles with each bit of the input.

    Args:
        fn: The function: a name of `hgq.layers.functions.FUNCTIONS` (``"tanh"``, ``"sigmoid"``, ``"softplus"``, ``"gelu"``, ``"exp"``,
            ``"silu"``, ``"elu"``, ``"selu"``, ``"softsign"``, ``"reciprocal"``, ``"rsqrt"``, …), or a function of one tensor, written with
            ``keras.ops`` or TensorFlow. To be saved, it must be registered with `keras.saving.register_keras_serializable`.
        input_quantizer: What `hgq.quantizers.get` takes, but not None.
        output_quantizer: The same; ``"auto"`` for one saturating format that suits `fn`.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing, or, when the layer is saved, a function that nobody could load.
        FreezeError: when frozen, an input of more than 16 bits, or a function that is NaN for an argument that can occur.
    """

    def __init__(
        self,
        fn: Any,
        *,
        input_quantizer: Identifier = "data",
        output_quantizer: Identifier = "auto",
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.table = FunctionTable(fn, input_quantizer, output_quantizer, owner=self.name, name="table")

    @property
    def input_quantizer(self):
        """The quantizer before the table."""
        return self.table.input_quantizer

    @property
    def output_quantizer(self):
        """The quantizer behind it."""
        return self.table.output_quantizer

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self.table.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        return self.table(inputs, training=training)

    def cost(self):
        return self.table.cost(self._shape)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        return self.table.to_ir(b, inputs[0], self.table.fn.name if self.table.fn.source is None else "table")

    def get_config(self) -> dict:
        table = self.table.get_config()
        return {**super().get_config(), **{name: table[name] for name in ("fn", "input_quantizer", "output_quantizer")}}
