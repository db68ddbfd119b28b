"""Who loads Keras: checked in fresh interpreters, because an `__init__` on the way may load it too."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

LEAN = [
    "hgq",
    "hgq.backend",
    "hgq.cli.app",
    "hgq.config",
    "hgq.converters",
    "hgq.converters.hls4ml",
    "hgq.converters.rtl",
    "hgq.datasets",
    "hgq.errors",
    "hgq.estimate",
    "hgq.firmware_templates",
    "hgq.ir.file",
    "hgq.ir.interpret",
    "hgq.numerics",
    "hgq.named",
    "hgq.passes",
    "hgq.plugins",
    "hgq.project",
    "hgq.report",
    "hgq.resources.ebops",
    "hgq.tools",
    "hgq.verify",
]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout


def present(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def test_what_stands_below_freeze_loads_no_keras():
    modules = [module for module in LEAN if present(module)]
    code = "import sys, importlib\n" + "".join(
        f"importlib.import_module({module!r})\nprint({module!r}, *sorted({{'keras', 'tensorflow', 'torch', 'jax'}} & set(sys.modules)))\n"
        for module in modules
    )
    loads = [line for line in run(code).splitlines() if len(line.split()) > 1]
    assert not loads, f"first module that loads it: {loads[0]}"


def test_import_hgq_loads_nothing_at_all():
    assert run("import sys, hgq\nprint([name for name in ('numpy', 'typer', 'rich', 'pydantic') if name in sys.modules])") == "[]\n"


def test_attributes_are_loaded_on_first_use():
    assert run("import hgq\nprint(hgq.Fixed.__module__, hgq.numerics.__name__, 'layers' in dir(hgq))") == "hgq.numerics hgq.numerics True\n"
    with pytest.raises(AttributeError, match="module 'hgq' has no attribute 'quantiser'"):
        import hgq

        _ = hgq.quantiser


def test_converters_has_one_name_only():
    done = subprocess.run([sys.executable, "-c", "import converters"], capture_output=True, text=True, cwd=find_root())
    assert done.returncode == 1 and "This package is `hgq.converters`; it was imported as `converters`" in done.stderr


def find_root() -> str:
    from pathlib import Path

    return str(Path(__file__).resolve().parent.parent)
