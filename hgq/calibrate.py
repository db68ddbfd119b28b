"""Run data through a model so that every tracked range covers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from hgq.errors import DataError
from hgq.layers.walk import quantizers


def calibrate(model: keras.Model, x: ArrayLike | Mapping[str, ArrayLike], *, batch_size: int = 8192, reset: bool = True) -> int:
    """Set the integer bits and the sign of every WRAP quantizer to just what this data needs.

    Trained ranges (SAT, SAT_SYM), constants and fractional bits stay as they are.

    Args:
        model: A built model of HGQ layers.
        x: Samples, shape (n, *input); a mapping by input name for several inputs.
        batch_size: Samples a step; calibration is eager, so large ones are fast.
        reset: Forget the ranges seen in training first.

    Returns:
        The number of samples seen.

    Raises:
        DataError: no samples, a wrong shape, NaN or infinity.
    """
    data = check_model_samples(model, x)
    with ExitStack() as stack:
        for quantizer in quantizers(model):
            if quantizer.tracks_range:
                stack.enter_context(quantizer.observe(reset=reset))
        samples = 0
        for batch in _batches(data, batch_size):
            model(batch[0] if len(batch) == 1 else batch, training=False)
            samples += len(batch[0])
    return samples


def _batches(data: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(data[0]), size):
        yield [value[start : start + size] for value in data]


def check_model_samples(model: keras.Model, x: Any) -> list[np.ndarray]:
    """Samples as float32, one array an input of the model, in its order.

    Raises:
        DataError: no samples, a wrong shape, a missing input, NaN or infinity.
    """
    wanted = model.inputs
    if not isinstance(x, Mapping):
        x = {tensor.name: value for tensor, value in zip(wanted, x if isinstance(x, list | tuple) else [x], strict=False)}
    data = []
    for tensor in wanted:
        where = f"input {tensor.name!r} of model {model.name!r}"
        if tensor.name not in x:
            raise DataError("A model input has no samples.", where=where, expected=f"key {tensor.name!r}", received=", ".join(map(str, x)))
        value = np.asarray(x[tensor.name])
        if value.dtype.kind not in "fiub":
            raise DataError("Samples must be numbers.", where=where, expected="floats or integers", received=f"dtype {value.dtype}")
        shape = tuple(tensor.shape[1:])
        if value.ndim != len(shape) + 1 or any(size is not None and size != got for size, got in zip(shape, value.shape[1:], strict=True)):
            expected = f"(n, {', '.join(map(str, shape))})"
            fix = "Give one row a sample, in the shape and with the scaling that the model was trained on."
            raise DataError("Samples have the wrong shape.", where=where, expected=expected, received=str(value.shape), fix=fix)
        value = value.astype(np.float32)
        if len(value) == 0 or not np.isfinite(value).all():
            bad = np.argwhere(~np.isfinite(value))
            received = (
                f"{len(bad)} of {value.size} are NaN or infinite, the first at {tuple(map(int, bad[0]))}" if len(bad) else "no samples"
            )
            fix = "Drop or impute these samples: fixed-point hardware has no NaN."
            raise DataError("Samples must be finite numbers.", where=where, expected="finite numbers", received=received, fix=fix)
        data.append(value)
    return data
