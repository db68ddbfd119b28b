"""What a tensor of one model's graph is in the graph of many: the same for all, or one for each."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Value:
    """A tensor of the traced graph, for all models.

    Three forms, made from each other when they are asked for, and kept: `shared` (the same tensor for every model), `stacked` (one tensor,
    models first), `parts` (one tensor a model). Data-sized tensors are best left in parts, which fit the caches and need no copy; of small
    ones the stack is worth the most, since an op on it costs as much as an op on one.

    Args:
        models: How many there are.
        shared, stacked, parts: One of them.
    """

    def __init__(self, models: int, *, shared: Any = None, stacked: Any = None, parts: list[Any] | None = None) -> None:
        self.models, self.shared, self._stacked, self._parts = models, shared, stacked, parts

    @property
    def varies(self) -> bool:
        """Whether models differ in it."""
        return self.shared is None

    @property
    def is_stacked(self) -> bool:
        """Whether the stack is there already."""
        return self._stacked is not None

    def parts(self) -> list[Any]:
        """One tensor a model."""
        if self.shared is not None:
            return [self.shared] * self.models
        if self._parts is None:
            self._parts = list(tf.unstack(self._stacked, self.models))
        return self._parts

    def stacked(self) -> Any:
        """One tensor, models first; of a shared one, copies."""
        if self._stacked is None:
            self._stacked = tf.stack(self.parts())
        return self._stacked

    def aligned(self, rank: int) -> Any:
        """For an op that broadcasts, whose operands have up to `rank` axes in one model: the models' axis before all of them."""
        if self.shared is not None:
            return self.shared
        stacked = self.stacked()
        own = len(stacked.shape) - 1
        if own == rank:
            return stacked
        return tf.reshape(stacked, [self.models, *[1] * (rank - own), *stacked.shape[1:]])
