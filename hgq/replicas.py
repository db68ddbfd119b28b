"""What replicas of a model have to agree on when each of them trains on a share of every batch (`tf.distribute`).

A strategy such as ``tf.distribute.MirroredStrategy`` gives each device a copy of every variable and a share of every batch. Keras sums
the gradients of all shares, so trained variables stay equal everywhere. What a layer learns from data without gradients (ranges, moving
statistics, greatest magnitudes) it assigns to its own copy, and every copy would go its own way. Layers therefore pass such numbers through
the functions of this module, which cost nothing where there is one replica: they return what they are given.

Replicas meet while a step is traced, all at the same place: not in a loop or a branch of a graph, nor in a graph for XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from hgq.errors import ConfigError

Tensor = Any

_APART = 0x51ED270B
"""Far from the steps by which `hgq.gradients.random.derived` tells uses of one seed apart."""


def count() -> int:
    """How many replicas run this step; 1 outside of a step, too."""
    context = _context()
    return 1 if context is None else context.num_replicas_in_sync


def number() -> Tensor:
    """Which of the replicas this is: an int32 scalar, from 0."""
    context = _context()
    return tf.constant(0) if context is None else tf.cast(context.replica_id_in_sync_group, tf.int32)


def greatest(*values: Tensor) -> tuple[Tensor, ...]:
    """Each of `values` (float32, the same shapes everywhere), element by element the greatest of all replicas. One exchange for all.

    Raises:
        ConfigError: the replicas cannot meet here.
    """
    context = _context()
    if context is None:
        return values
    flat = tf.concat([tf.reshape(value, [1, -1]) for value in values], 1)
    most = tf.reduce_max(_met(lambda: context.all_gather(flat, axis=0)), 0)  # all_reduce knows sums and means alone
    sizes = [value.shape.num_elements() for value in values]
    return tuple(tf.reshape(part, value.shape) for part, value in zip(tf.split(most, sizes), values, strict=True))


def mean(value: Tensor) -> Tensor:
    """The mean over all replicas; differentiable. Right for means over a batch where all shares are of one size.

    Raises:
        ConfigError: the replicas cannot meet here.
    """
    context = _context()
    return value if context is None else _met(lambda: context.all_reduce(tf.distribute.ReduceOp.MEAN, value))


def pooled(mean_here: Tensor, variance_here: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the whole batch from those of this replica's share; differentiable. Right where all shares are of one size."""
    if _context() is None:
        return mean_here, variance_here
    overall = mean(mean_here)
    return overall, mean(variance_here + tf.math.squared_difference(mean_here, overall))


def own_seed(seed: Tensor) -> Tensor:
    """The seed of random numbers, int32 of shape (2,), for this replica: equal ones would round all shares of a batch alike."""
    return seed if _context() is None else seed + tf.stack([number() * _APART, tf.constant(0)])


def add_loss(layer: Any, loss: Tensor) -> None:
    """``layer.add_loss(loss)`` of a loss that is the same on all replicas: it counts once.

    Replicas are traced one after the other, each up to where all meet, and share the layer's list of losses; only those of its own have
    gradients. Therefore all meet before, so that no model forgets, on its first layer, what another replica has just added, and after, so
    that every replica sees a whole list, whose values add up to `loss`. Gradients are whole: Keras takes the mean over the replicas.
    """
    context = _context()
    if context is None:
        layer.add_loss(loss)
        return
    still = tf.stop_gradient(loss)
    _met(lambda: context.merge_call(lambda strategy: None))
    layer.add_loss(still / context.num_replicas_in_sync + (loss - still))
    _met(lambda: context.merge_call(lambda strategy: None))


def share(batch: Tensor) -> Tensor:
    """This replica's part of a batch that all of them know, along the first axis."""
    return batch if _context() is None else batch[number() :: count()]


def _context() -> Any | None:
    """The replica's, if there are others."""
    context = tf.distribute.get_replica_context() if tf.distribute.has_strategy() else None
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def _met(exchange: Callable[[], Any]) -> Any:
    """What `exchange` returns, with a better error where TensorFlow says "merge_call called while defining a new graph"."""
    try:
        return exchange()
    except RuntimeError as error:
        raise ConfigError(
            "Replicas cannot meet inside of a loop, a branch or another graph.",
            where="a layer under tf.distribute",
            expected="jit_compile=False, and recurrent layers with unroll=True where their gradients remember something",
            received=str(error).splitlines()[0],
        ) from error
