"""Compile the native ops once, and keep them. Imports no TensorFlow: `hgq doctor` asks here."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hgq import cache, tools
from hgq.errors import OutputError, ToolNotFound

log = logging.getLogger("hgq.native")

SOURCES = Path(__file__).parent / "src"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-std=c++17", "-shared", "-fPIC", "-w")
"""No contraction and no fast math: results must equal the references' to the last bit."""
TIME_LIMIT_S = 600
SWITCH = "HGQ_NATIVE"
"""The environment variable: ``0`` turns native ops off."""


@dataclass(frozen=True)
class State:
    """Whether native ops are there, for `hgq doctor`."""

    usable: bool
    """Built, or will be on first use."""
    text: str
    path: str | None = None


def switched_off() -> bool:
    """Whether the user does not want native ops."""
    return os.environ.get(SWITCH, "").strip().lower() in ("0", "off", "no", "false")


def state() -> State:
    """What would happen on first use; compiles nothing."""
    if switched_off():
        return State(False, f"switched off by {SWITCH}={os.environ[SWITCH]}")
    if _tensorflow() is None:
        return State(False, 'TensorFlow is not installed: pip install "hgqc[train]"')
    try:
        path = _path(FLAGS)
    except ToolNotFound as error:
        return State(False, f"no compiler; training works without, more slowly. {error.fix}")
    except OutputError as error:
        return State(False, f"{error.what} {error.fix}")
    return State(True, "built" if path.is_file() else "will be compiled on first use", str(path))


def library(flags: Sequence[str] = FLAGS) -> Path:
    """The compiled library; compiles it where it is not in the cache yet.

    Two processes may do so at once: each writes a file of its own and renames it when it is complete.

    Args:
        flags: Of the compiler.

    Raises:
        ToolNotFound: there is no compiler, or no TensorFlow.
        ToolFailed: the compiler ended with an error or took too long.
        OutputError: the cache folder cannot be written.
    """
    path = _path(flags)
    if path.is_file():
        return path
    import tensorflow as tf

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".so", prefix=path.stem + ".", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    # a warning, since nothing less is shown by default and this explains a pause
    log.warning("Compiling native ops for TensorFlow %s: once, up to a minute …", tf.__version__)
    try:
        # as system headers, so that TensorFlow's own warnings are not ours
        includes = [flag.replace("-I", "-isystem", 1) if flag.startswith("-I") else flag for flag in tf.sysconfig.get_compile_flags()]
        command = [tools.require("g++"), *flags, str(SOURCES / "ops.cc"), "-o", name, *includes, *tf.sysconfig.get_link_flags()]
        done = tools.run(command, cwd=SOURCES, timeout_s=TIME_LIMIT_S)
        os.replace(name, path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    log.info("Compiled native ops in %.0f s: %s", done.wall_s, path)
    return path


def _path(flags: Sequence[str]) -> Path:
    """Where the library is or would be: everything that it depends on is in its name."""
    compiler = tools.require("g++")
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in (".cc", ".h"):
            digest.update(source.name.encode() + source.read_bytes())
    for part in (*flags, str(compiler.path), compiler.version, _cpu(), *(_tensorflow() or ("",))):
        digest.update(b"\0" + part.encode())
    return _cache() / f"ops-{digest.hexdigest()[:24]}.so"


def _cache() -> Path:
    try:
        return cache.folder("native")
    except RuntimeError as error:  # no home
        raise _unwritable("~/.cache", error) from error


def _unwritable(folder: str | os.PathLike[str], error: Exception) -> OutputError:
    return OutputError(
        "The cache folder for native ops cannot be written.",
        where=os.fspath(folder),
        received=str(error),
        fix="Set XDG_CACHE_HOME to a folder that can.",
    )


def _tensorflow() -> tuple[str, str] | None:
    """Folder and version of the installed TensorFlow."""
    spec = find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        return None
    for name in ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"):
        with suppress(metadata.PackageNotFoundError):
            return next(iter(spec.submodule_search_locations)), metadata.version(name)
    return next(iter(spec.submodule_search_locations)), "unknown"


def _cpu() -> str:
    """What ``-march=native`` depends on."""
    with suppress(OSError):
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return " ".join(sorted(found[1].split()))
    return f"{platform.machine()} {platform.processor()}"
