"""Writing to disk without ever leaving half of something behind, and errors that say what to do instead."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hgq.errors import OutputError, found_at

_MEANING = {
    errno.ENOSPC: ("The disk is full.", "Free some space, or name a place on another disk."),
    errno.EDQUOT: ("Your disk quota is used up.", "Free some space, or name a place on another disk."),
    errno.EROFS: ("This place is read-only.", "Name a place that you may write to."),
    errno.EACCES: ("No permission to write here.", "Name a place that you may write to, or change its permissions."),
    errno.EPERM: ("No permission to write here.", "Name a place that you may write to, or change its permissions."),
    errno.EEXIST: ("A part of this path is a file, not a folder.", "Name another place, or move that file away."),
    errno.ENOTDIR: ("A part of this path is a file, not a folder.", "Name another place, or move that file away."),
    errno.EISDIR: ("This is a directory, not a file.", "Name a file."),
    errno.ENAMETOOLONG: ("This path is too long.", "Name a shorter one."),
}


def write_file_atomically(path: str | os.PathLike, data: bytes | str, force: bool = False) -> Path:
    """Write one file whole or not at all; folders above it are made. Returns the path with its links resolved.

    Args:
        path: Where.
        data: Bytes, or text to be written as UTF-8.
        force: Replace a file that exists.

    Raises:
        OutputError: the file exists and `force` is off; the place is no regular file, read-only or full.
    """
    target = Path(os.path.realpath(path))
    with writing(target):
        refuse_existing_file(target, force)
        temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
        with _made_parents(target):
            try:
                temporary.write_bytes(data.encode() if isinstance(data, str) else data)
                temporary.replace(target)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
    return target


def refuse_existing(target: Path, force: bool) -> None:
    """Raise `OutputError` if `target` exists, unless forced; a file is never replaced by a directory."""
    if target.exists() and not force:
        kind = "directory is there already and is not empty" if target.is_dir() else "file is there already"
        raise OutputError(f"This {kind}.", where=str(target), fix="Name another place, or replace it with --force (in Python: force=True).")


def refuse_existing_file(target: Path, force: bool) -> None:
    """The same where a file is to be written: a directory, or a device, is not even replaced if forced."""
    if target.exists() and not target.is_file():
        raise OutputError("This exists and is not a file.", where=str(target), received=found_at(target), fix="Name another place.")
    refuse_existing(target, force)


def refuse_used(directory: Path, kind: str) -> None:
    """Raise `OutputError` unless `directory`, of a `kind` that can be resumed ("run"), is new or empty."""
    if directory.is_dir() and any(directory.iterdir()):
        raise OutputError(
            f"The {kind} directory is not empty.",
            where=str(directory),
            fix=f"Name another one, or continue the {kind} that is there with --resume (in Python: resume=True).",
        )
    if directory.exists() and not directory.is_dir():
        raise OutputError(
            f"The {kind} directory is a file.", where=str(directory), expected="a new or empty folder", fix="Name another one."
        )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn every `OSError` of the block into an `OutputError` that says what to do."""
    try:
        yield
    except OSError as error:
        what, fix = _MEANING.get(error.errno or 0, ("Cannot write here.", "Name a place that you may write to."))
        raise OutputError(what, where=str(target), received=error.strerror or str(error), fix=fix) from error


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A fresh hidden sibling of `target`, to be filled and renamed. What is left of it afterwards is deleted."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with _made_parents(target):
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Make the folders above `target`; if the block fails, delete those that were made."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise
