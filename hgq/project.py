"""Generated firmware, in memory until it is written: no backend touches the disk itself.

A `FirmwareProject` is ``{relative path: content}``. Identical input gives a byte-identical project, so there are no times, user names or
absolute paths in one. Writing is atomic: either the whole directory is there afterwards, or what was there before.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from hgq.errors import ConfigError, FileFormatError, OutputError
from hgq.output import new_directory, refuse_existing, write_file_atomically, writing

__all__ = ["MANIFEST", "Change", "FirmwareProject", "check_name", "write_file_atomically"]

MANIFEST = "hgq-project.json"
"""Written beside the files: name, meta, digest of the project and of each file. `from_directory` reads it; ``--force`` looks for it."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset(
    "always and architecture assign begin block body buffer bus case class component const default double else end entity enum extern "
    "float for function generate generic if import in initial inout input int integer label library long loop main map module namespace "
    "new not null of open operator or out output package parameter port private process public range real record reg register return "
    "select short signal signed static string struct switch table task template then this time type union unsigned use variable vector "
    "void wait when while wire with work xor".split()
)


def check_name(name: str, where: str = "project name") -> str:
    """`name`, if it can be a file, a shell word, a Tcl word and an identifier of C++, Verilog and VHDL.

    Raises:
        ConfigError: it cannot.
    """
    fault = None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        fault = "a letter, then up to 63 letters, digits or underscores"
    elif "__" in name or name.endswith("_"):
        fault = "no double and no last underscore (VHDL forbids them)"
    elif name.lower() in _RESERVED:
        fault = "no keyword of C++, Verilog or VHDL"
    if fault is None:
        return name
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", str(name)).strip("_0123456789")[:60].strip("_") or "model"
    if cleaned.lower() in _RESERVED:
        cleaned += "_top"
    raise ConfigError(
        "This name cannot be used for a project.", where=where, expected=fault, received=repr(name), fix=f"Take {cleaned!r} for example."
    )


@dataclass(frozen=True)
class Change:
    """One file in which two projects differ."""

    path: str
    kind: str
    """``added``, ``removed`` or ``changed``, seen from the first project to the second."""
    text: str
    """Unified diff of a text file; empty for a binary one."""

    def __str__(self) -> str:
        return self.text or f"{self.kind} {self.path}"


@dataclass(frozen=True)
class FirmwareProject:
    """A directory of firmware that is not on the disk yet.

    Args:
        name: Project and top-level name; see `check_name`.
        files: Content by relative POSIX path. Text is written as UTF-8 as it is; what starts with ``#!`` becomes executable.
        meta: JSON-able facts about the project (backend, part, clock, digest of the graph); part of the digest, hence no times in it.

    Raises:
        ConfigError: a bad name, a path that leaves the directory, or one that is both a file and a folder.
    """

    name: str
    files: Mapping[str, str | bytes]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        for path in self.files:
            _check_path(path)
        folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents}
        for path in sorted(folders & set(self.files)):
            raise ConfigError("A path in this project is both a file and a folder.", where=path)
        try:
            meta = json.loads(json.dumps(dict(self.meta), sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError("The project's meta cannot be written as JSON.", received=str(error)) from error
        object.__setattr__(self, "files", MappingProxyType({path: self.files[path] for path in sorted(self.files)}))
        object.__setattr__(self, "meta", MappingProxyType(meta))

    def data(self, path: str) -> bytes:
        """Bytes of one file."""
        content = self.files[path]
        return content if isinstance(content, bytes) else content.encode()

    def digest(self) -> str:
        """SHA-256 of name, meta and files, as hex; the same on every machine."""
        total = hashlib.sha256(json.dumps([self.name, dict(self.meta)], sort_keys=True).encode())
        for path in self.files:
            total.update(f"\n{path}\n{hashlib.sha256(self.data(path)).hexdigest()}".encode())
        return total.hexdigest()

    def diff(self, other: FirmwareProject) -> list[Change]:
        """What turns this project into `other`, by path; empty if the files are equal."""
        changes = []
        for path in sorted({*self.files, *other.files}):
            old = self.data(path) if path in self.files else None
            new = other.data(path) if path in other.files else None
            if old != new:
                kind = "added" if old is None else "removed" if new is None else "changed"
                changes.append(Change(path, kind, _unified(path, old or b"", new or b"")))
        return changes

    def write(self, directory: str | os.PathLike, force: bool = False) -> Path:
        """Write all files to `directory`, and `MANIFEST` beside them. Returns the directory.

        Everything goes to a hidden sibling first, which then takes the directory's place: an error half-way leaves what was there before.

        Args:
            directory: New, or empty. Folders above it are made.
            force: Replace a directory that holds an earlier project, with everything else in it.

        Raises:
            OutputError: the directory exists and `force` is off, or it is no hgq project; the disk is read-only or full.
        """
        target = Path(os.path.realpath(directory))
        with writing(target):
            if target.exists() and not (target.is_dir() and not any(target.iterdir())):
                refuse_existing(target, force)
                _refuse_foreign(target)
            with new_directory(target) as temporary:
                for path in (*self.files, MANIFEST):
                    data = self._manifest() if path == MANIFEST else self.data(path)
                    file = temporary / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
                    if data.startswith(b"#!"):
                        file.chmod(file.stat().st_mode | 0o111)
                _take_place(temporary, target)
        return target

    def archive(self, path: str | os.PathLike, force: bool = False) -> Path:
        """Write the project as a zip; its only top folder is the project's name. The same project gives the same bytes.

        Raises:
            OutputError: as `write`.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in (*self.files, MANIFEST):
                data = self._manifest() if file == MANIFEST else self.data(file)
                entry = zipfile.ZipInfo(f"{self.name}/{file}", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3  # POSIX, whatever this machine is
                entry.external_attr = (0o100755 if data.startswith(b"#!") else 0o100644) << 16
                archive.writestr(entry, data)
        return write_file_atomically(path, buffer.getvalue(), force)

    @classmethod
    def from_directory(cls, directory: str | os.PathLike) -> FirmwareProject:
        """The project in `directory`, as its files are now: those of the manifest that still exist, not what tools left beside them.

        Raises:
            FileFormatError: the directory has no readable `MANIFEST`.
        """
        root = Path(directory)
        try:
            manifest = json.loads((root / MANIFEST).read_bytes())
            name, meta, files = manifest["name"], manifest["meta"], list(manifest["files"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                "This is not a project written by hgq.",
                where=str(root),
                expected=f"a directory with a readable {MANIFEST}",
                received=f"{type(error).__name__}: {error}",
                fix="Write it again with `hgq export`.",
            ) from error
        for path in files:
            _check_path(path)
        return cls(name, {path: _text_if_possible((root / path).read_bytes()) for path in files if (root / path).is_file()}, meta)

    def _manifest(self) -> bytes:
        files = {path: hashlib.sha256(self.data(path)).hexdigest() for path in self.files}
        content = {"name": self.name, "digest": self.digest(), "meta": dict(self.meta), "files": files}
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    clean = str(pure) == path and not pure.is_absolute() and ".." not in pure.parts and path not in ("", ".", MANIFEST)
    if not clean or any(character in path for character in '\\:*?"<>|') or not path.isprintable():
        raise ConfigError(
            "A path in this project is not allowed.", expected="a relative POSIX path inside the project", received=repr(path)
        )


def _unified(path: str, old: bytes, new: bytes) -> str:
    old_text, new_text = _text_if_possible(old), _text_if_possible(new)
    if isinstance(old_text, bytes) or isinstance(new_text, bytes):
        return ""
    return "".join(difflib.unified_diff(old_text.splitlines(True), new_text.splitlines(True), f"a/{path}", f"b/{path}"))


def _text_if_possible(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _refuse_foreign(target: Path) -> None:
    """``--force --out ~`` must not cost anybody his home."""
    if not (target / MANIFEST).is_file():
        raise OutputError(
            "This was not written by hgq, so even --force does not replace it.",
            where=str(target),
            expected=f"an earlier project (a directory with {MANIFEST}), an empty directory or none",
            fix="Name another directory, or delete this one yourself.",
        )


def _take_place(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`; what is there moves aside first, and moves back if that fails."""
    if not target.exists():
        temporary.rename(target)
        return
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
