"""`hgq doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from typing import Any

import typer

from hgq.cli import _conflict, _output

EXTRAS = {
    "train": "layers, training, freeze",
    "rtl": "Verilog and VHDL",
    "hls4ml": "HLS C++ for Vitis and others",
    "qonnx": "running the models that the qonnx backend writes",
    "synth": "synthesis without a vendor's tools",
}
"""Extra -> what it is for."""


def command(as_json: _output.AsJson = False) -> None:
    """Show what is installed, what is missing and how to get it. Exit code 2 if the installation itself is broken."""
    facts = collect()
    if as_json:
        _output.json_result(facts)
    else:
        _render(facts)
    raise typer.Exit(0 if facts["healthy"] else 2)


def collect() -> dict[str, Any]:
    """All that `hgq doctor` knows; imports neither Keras nor TensorFlow."""
    import hgq
    from hgq import native, plugins, tools

    requirements = _requirements()
    packages = [_package(name) for name in requirements.get("", [])]
    extras = []
    for extra, purpose in EXTRAS.items():
        members = [_package(name) for name in requirements.get(extra, [])]
        complete = bool(members) and all(member["version"] for member in members)
        fix = None if complete else f'pip install "hgqc[{extra}]"'
        extras.append({"extra": extra, "purpose": purpose, "complete": complete, "packages": members, "fix": fix})
    foreign = _conflict.all_owners()
    problems = [_conflict.advice(foreign)] if foreign else []
    installed = _version("hgqc")
    if installed is None:
        problems.append("hgqc is imported from a folder but is not installed: pip install -e . there")
    elif installed != hgq.__version__:
        problems.append(f"hgqc {installed} is installed, but {hgq.__version__} at {hgq.__file__} is imported: pip install it again")
    return {
        "healthy": not problems and all(package["version"] for package in packages),
        "problems": problems,
        "hgqc": {"version": hgq.__version__, "installed": installed, "path": os.path.dirname(hgq.__file__)},
        "python": {"version": platform.python_version(), "path": sys.executable, "platform": platform.platform(), "cpus": os.cpu_count()},
        "packages": packages,
        "extras": extras,
        "backends": plugins.names(),
        "native": native.state(),
        "tools": [_yosys(tools.status(name)) if name == "yosys" else tools.status(name) for name in tools.KNOWN],
    }


def _yosys(status: Any) -> Any:
    """Yosys may be a Python package as well as a program."""
    from dataclasses import replace

    from hgq.synth import engines

    engine = next(iter(engines.installed()), None)
    return status if engine is None else replace(status, found=True, version=engine.version, path=engine.name, fix=None)


def _render(facts: dict[str, Any]) -> None:
    python = facts["python"]
    _output.result(f"hgqc {facts['hgqc']['version']}  {facts['hgqc']['path']}")
    _output.result(f"Python {python['version']}  {python['path']}  {python['platform']}, {python['cpus']} CPUs")
    rows = [{"extra": "(base)", "for": "everything after freeze", "packages": _listed(facts["packages"]), "install": None}]
    rows += [
        {"extra": extra["extra"], "for": extra["purpose"], "packages": _listed(extra["packages"]), "install": extra["fix"]}
        for extra in facts["extras"]
    ]
    _output.table(rows, "Python packages")
    _output.table(
        [
            {"tool": tool.name, "version": tool.version or "absent", "for": tool.purpose, "path or how to get it": tool.path or tool.fix}
            for tool in facts["tools"]
        ],
        "Programs (none is needed to train, freeze and export)",
    )
    state = facts["native"]
    _output.result(f"Native ops: {state.text}{f'  {state.path}' if state.path else ''}")
    _output.result(f"Backends: {', '.join(facts['backends'])}")
    for problem in facts["problems"]:
        _output.warning(problem)
    if facts["healthy"]:
        _output.done("The installation is sound.")


def _listed(packages: list[dict[str, Any]]) -> str:
    return ", ".join(f"{package['name']} {package['version'] or '(absent)'}" for package in packages)


def _package(name: str) -> dict[str, Any]:
    return {"name": name, "version": _version(name)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, list[str]]:
    """Extra -> the distributions it asks for; the base under the empty name."""
    try:
        declared = metadata.requires("hgqc") or []
    except metadata.PackageNotFoundError:
        declared = []
    found: dict[str, list[str]] = {}
    for line in declared:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", line)
        if name:
            found.setdefault(extra.group(1) if extra else "", []).append(name.group())
    return found
