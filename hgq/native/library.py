"""The loaded native ops, and whether they may be used here and now. TensorFlow is imported when they are: `hgq doctor` does without."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from hgq.errors import HGQError
from hgq.native import build

log = logging.getLogger("hgq.native")

_IN_GRAPHS: ContextVar[bool | None] = ContextVar("hgq_native_in_graphs", default=None)
_LATEST: list[bool] = [False]
"""What was said last, on any thread: a strategy of `tf.distribute` traces each replica on a thread of its own, where nothing was said."""


@contextmanager
def in_graphs(allowed: bool = True) -> Iterator[None]:
    """Graphs traced inside may hold native ops: whoever says so knows that XLA will not compile them.

    Args:
        allowed: False forbids them again, inside of another one.
    """
    token = _IN_GRAPHS.set(allowed)
    _LATEST.append(allowed)
    try:
        yield
    finally:
        _LATEST.pop()
        _IN_GRAPHS.reset(token)


def ops_for(x: Any) -> Any | None:
    """The native ops, if they may be used now for a tensor like `x`; None: use the reference."""
    import tensorflow as tf

    if x.dtype != tf.float32 or not (tf.executing_eagerly() or _allowed()) or build.switched_off():
        return None
    loaded = _loaded()
    return loaded[0] if loaded else None


def ops_in_graphs() -> Any:
    """The native ops for float32, or None, whatever is allowed here: for gradients of native ops, and for stacks of models."""
    import tensorflow as tf

    with in_graphs():
        return ops_for(tf.TensorSpec((), tf.float32))


def _allowed() -> bool:
    import tensorflow as tf

    said = _IN_GRAPHS.get()
    return _LATEST[-1] if said is None and tf.distribute.has_strategy() else bool(said)


def instructions() -> str | None:
    """Which instructions the products of integers use; None without native ops."""
    loaded = None if build.switched_off() else _loaded()
    return loaded[1] if loaded else None


@cache
def _loaded() -> tuple[Any, str] | None:
    """Ops and instructions, or None after one notice."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        log.info("Native ops are not used: they run on the CPU, and TensorFlow sees a GPU.")
        return None
    try:
        return load(build.library())
    except (HGQError, OSError, tf.errors.OpError) as error:
        log.warning(
            "Native ops are not available; training goes on with plain TensorFlow ops, more slowly, with the same results.\n%s\n"
            "Set %s=0 to do without them silently.",
            error,
            build.SWITCH,
        )
        return None


def load(path: Path) -> tuple[Any, str]:
    """The ops of a library, and the instructions that its products use."""
    import tensorflow as tf

    ops = tf.load_op_library(str(path))
    describe = ctypes.CDLL(str(path)).hgqc_instructions
    describe.restype = ctypes.c_char_p
    return ops, describe().decode()
