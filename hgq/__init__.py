"""hgqc: train neural networks with a bitwidth of its own for every weight, and turn them into verified FPGA firmware.

Layers, quantizers and `freeze` are loaded on first use, because they bring Keras and TensorFlow with them::

    import hgq                  # fast
    hgq.layers.QDense(32)       # now Keras is imported
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# In a checkout that is not installed, `converters/` and `firmware_templates/` stand beside this folder instead of in it.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "converters").is_dir() and str(_checkout) not in __path__:
    __path__.append(str(_checkout))

# Attribute -> (module, name in it); a name of None is the module itself.
_LAZY: dict[str, tuple[str, str | None]] = {
    "Fixed": ("hgq.numerics", "Fixed"),
    "HGQError": ("hgq.errors", "HGQError"),
    "quantize_model": ("hgq.imports.floats", "quantize_model"),
    **{
        module: (f"hgq.{module}", None)
        for module in (
            "backend",
            "calibrate",
            "config",
            "converters",
            "datasets",
            "errors",
            "estimate",
            "firmware_templates",
            "freeze",
            "gradients",
            "imports",
            "ir",
            "layers",
            "numerics",
            "passes",
            "plugins",
            "project",
            "quantizers",
            "report",
            "resources",
            "tools",
            "training",
            "verify",
            "workflow",
        )
    },
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hgq' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    loaded = import_module(module)
    return loaded if attribute is None else getattr(loaded, attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
