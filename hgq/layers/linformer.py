"""Attention over fewer positions: Linformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from hgq.errors import ConfigError
from hgq.layers.attention import FEATURES, OTHERS, QMultiHeadAttention
from hgq.layers.base import QLayer
from hgq.layers.dense import checked_units
from hgq.layers.einsum import QEinsumDense

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QLinformerAttention(QMultiHeadAttention):
    """Attention with keys and values projected along their positions (Linformer, arXiv:2006.04768, eq. 7).

    Before anything else, s positions become `projection_dim`: ``key' = E key`` and ``value' = F value`` with learned, quantized E and F of
    shape (projection_dim, s). Scores, tables and products then grow with `projection_dim` rather than with s.

    Args:
        num_heads, key_dim: As in `QMultiHeadAttention`.
        projection_dim: Positions that are left.
        share_projection: E = F. Where key and value are one tensor, it is then projected once.
        **kwargs: Those of `QMultiHeadAttention`. There is no mask: positions are mixed before the scores.

    Raises:
        ConfigError: an argument means nothing, a mask, or more than one axis of positions.
    """

    products = (*QMultiHeadAttention.products, "key_projection", "value_projection")

    def __init__(self, num_heads: int, key_dim: int, projection_dim: int, share_projection: bool = False, **kwargs) -> None:
        super().__init__(num_heads, key_dim, **kwargs)
        self.projection_dim = checked_units(projection_dim, self.name, "projection_dim")
        self.share_projection = bool(share_projection)

    def build(self, query_shape, value_shape=None, key_shape=None) -> None:
        given = query_shape if value_shape is None else value_shape
        shapes = {"key_projection": given if key_shape is None else key_shape, "value_projection": given}
        if len(query_shape) != 3 or self.attention_axes is not None:
            raise ConfigError(
                "Linformer attention projects one axis of positions.",
                where=f"layer {self.name}",
                expected="inputs (batch, positions, features), attention_axes=None",
                received=f"query {tuple(query_shape)}, attention_axes {self.attention_axes}",
            )
        projections = {name: self._position_projection(name, tuple(shape)) for name, shape in shapes.items()}
        self.key_projection = projections["key_projection"]
        self.value_projection = self.key_projection if self.share_projection else projections["value_projection"]
        for projection in {id(part): part for part in (self.key_projection, self.value_projection)}.values():
            projection.build(tuple(shapes[projection.name]))
        super().build(query_shape, value_shape, key_shape)

    def _position_projection(self, name: str, shape: tuple[int, ...]) -> QEinsumDense:
        given = {name: value for name, (value, _) in self._quantizers.items()}
        return QEinsumDense(
            f"B{OTHERS[0]}{FEATURES},{OTHERS[0]}{OTHERS[1]}->B{OTHERS[1]}{FEATURES}",
            (self.projection_dim, shape[-1]),
            input_quantizer=given["input_quantizer"],
            kernel_quantizer=given["kernel_quantizer"],
            name=name,
            **self.backward.arguments(name),
            **{name: thing for name, thing in self._fresh_constants().items() if name.startswith("kernel")},
        )

    def _shortened(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], self.projection_dim, *shape[2:])

    def _once(self) -> bool:
        """Whether key and value are one tensor that is projected once."""
        return self.share_projection and not self._key_given

    def __call__(self, query, value=None, key=None, attention_mask=None, use_causal_mask=False, **kwargs):
        """Attend; masks are refused."""
        if attention_mask is not None or use_causal_mask:
            raise ConfigError(
                "Linformer attention knows no mask: positions are mixed before the scores.",
                where=f"layer {self.name}",
                expected="no attention_mask, use_causal_mask=False",
                received=f"attention_mask={attention_mask}, use_causal_mask={use_causal_mask}",
                fix="Use QMultiHeadAttention.",
            )
        return super().__call__(query, value, key, **kwargs)

    def _shorten(self, value, key, training=None) -> tuple[Any, Any]:
        short = self.value_projection.forward(value, training)
        return short, short if self._once() else self.key_projection.forward(key, training)

    def _shortened_to_ir(self, b: GraphBuilder, value: Ref, key: Ref) -> tuple[Ref, Ref]:
        short = self._part_to_ir(b, self.value_projection, value)
        return short, short if self._once() else self._part_to_ir(b, self.key_projection, key)

    def _parts(self) -> list[QLayer]:
        own = [self.value_projection] if self._once() else [self.value_projection, self.key_projection]
        return [*own, *super()._parts()]

    def get_config(self) -> dict:
        return {**super().get_config(), "projection_dim": self.projection_dim, "share_projection": self.share_projection}
