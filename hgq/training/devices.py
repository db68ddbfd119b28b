"""On which devices a training runs: one, or several that share each batch (`hgq.replicas`)."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import tensorflow as tf

from hgq.errors import ConfigError


def strategy_of(devices: int | Literal["all"], *, batch_size: int, jit_compile: bool) -> Any:
    """The strategy under whose ``scope()`` a model for so many devices is made; for one, TensorFlow's own, which changes nothing.

    Args:
        devices: How many of the GPUs that TensorFlow sees, or of the logical CPUs where it sees none; ``"all"`` of them.
        batch_size: Samples a step, on all devices together.
        jit_compile: Whether the step is compiled with XLA.

    Raises:
        ConfigError: there are fewer devices, batches cannot be shared evenly, or XLA shall compile for several.
    """
    there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    count = len(there) if devices == "all" else devices
    if count == 1:
        return tf.distribute.get_strategy()
    if count > len(there):
        raise ConfigError(
            "There are not so many devices.",
            where="train.devices",
            expected=f'at most {len(there)}, or "all": ' + ", ".join(one.name.removeprefix("/device:") for one in there),
            received=str(devices),
        )
    if jit_compile:
        raise ConfigError(
            "XLA compiles a step for one device.", where="train.jit_compile", expected=f"false for {count} devices", received="true"
        )
    if batch_size % count:
        raise ConfigError(
            "Devices have to share a batch evenly.",
            where="train.batch_size",
            expected=f"a multiple of {count}, the number of devices",
            received=str(batch_size),
        )
    return _mirrored(tuple(one.name for one in there[:count]))


@cache
def _mirrored(names: tuple[str, ...]) -> Any:
    """One for each process: TensorFlow takes the messages of a second strategy for those of the first."""
    return tf.distribute.MirroredStrategy(names)
