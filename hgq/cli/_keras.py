"""Importing Keras and TensorFlow without their greetings."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hgq.cli import _output


def load() -> None:
    """Import Keras on TensorFlow, the one backend that our layers have; this takes some seconds, and so says it.

    Raises:
        ImportError: one of them is absent.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever this user's other programs run on
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _output.progress("loading Keras and TensorFlow …")
    with _silent_stderr(), _kept_for_ever():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.constant(0.0)  # the first op is what looks for GPUs, and complains


@contextmanager
def _kept_for_ever() -> Iterator[None]:
    """Hundreds of thousands of objects stay until the end: looking for garbage among them would take a second of each command."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Native code writes to file descriptor 2 before it can be configured: put it aside meanwhile."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed: nothing to silence
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        with suppress(OSError):
            os.close(kept)
