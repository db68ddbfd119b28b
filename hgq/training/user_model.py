"""A model that a function of the user's makes: ``model.build = "nets.py:lenet"`` in a recipe."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from hgq.datasets import Dataset
from hgq.errors import ConfigError, HGQError, found_at


def user_function(reference: str) -> Callable[..., Any]:
    """What ``model.build`` names; importing it also registers the layers that its module defines.

    Raises:
        ConfigError: no such file, module or function, or a module that fails.
    """
    source, name = reference.rsplit(":", 1)
    where = f"model.build = {reference!r}"
    try:
        module = _module_of(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except HGQError:
        raise
    except Exception as error:  # a user's module raises whatever it raises
        received = f"{type(error).__name__}: {error}"
        raise ConfigError("The module of the model cannot be imported.", where=where, received=received) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError("There is no such function.", where=where, expected=" or ".join(known) or "a function", received=name)
    return function


def _module_of(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(
            "There is no such file.",
            where=f"model.build: {path}",
            expected="a Python file",
            received=found_at(path),
            fix="The path is relative to the working directory.",
        )
    name = f"_hgq_user_{path.stem}"
    if name in sys.modules and Path(str(sys.modules[name].__file__)) == path.resolve():  # its layers can be registered only once
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError("This is not a Python file.", where=f"model.build: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def user_model(reference: str, data: Dataset) -> keras.Model:
    """The model that the function makes for this data.

    Raises:
        ConfigError: what `user_function` raises, or something else than a model that takes the data.
    """
    model = user_function(reference)(tuple(data.x_train.shape[1:]), data.outputs)
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ConfigError(
            "This function makes no model that could be trained.",
            where=f"model.build = {reference!r}",
            expected="a built keras.Model with one input",
            received=type(model).__name__,
        )
    if tuple(model.input_shape[1:]) != tuple(data.x_train.shape[1:]):
        raise ConfigError(
            "The model does not take the data.",
            where=f"model.build = {reference!r}",
            expected=f"an input of shape {tuple(data.x_train.shape[1:])}",
            received=str(tuple(model.input_shape[1:])),
        )
    return model
