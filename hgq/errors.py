"""Every exception hgqc raises, and how each becomes an exit code.

::

    HGQError (a ValueError)                exit code 2
    ├── ConfigError      a recipe, rule, string or argument that means nothing
    ├── DataError        arrays with NaN, the wrong shape or the wrong type
    ├── FileFormatError  a truncated, foreign or newer ``.hgq`` / ``.keras`` file
    ├── FreezeError      a Keras model that cannot become an ``ir.Graph``
    ├── GraphError       an ``ir.Graph`` that breaks an invariant
    ├── PassError        a pass that produced such a graph, or changed its meaning
    ├── LoweringError    an op or option that a backend cannot take
    ├── OutputError      a place that cannot be written
    ├── Int64Overflow    a value that would not fit the golden model's integers
    ├── ToolFailed       an external program that ended badly
    ├── ToolNotFound     an external program or optional package that is absent; exit code 3
    ├── MismatchError    two representations of one model that differ; exit code 1
    └── BudgetError      a resource budget that was not met; exit code 1

An error teaches: *what* happened, *where*, what was *expected*, what was *received*, and how to *fix* it. The pieces are keyword
arguments so that the command line can lay them out, and so that no message forgets one by accident.
"""

from __future__ import annotations

import os


class HGQError(ValueError):
    """Base of all errors raised on purpose by hgqc.

    Args:
        what: One sentence: what went wrong.
        where: The layer path, node, file or option it happened in.
        expected: What would have been right.
        received: What was found instead.
        fix: What the user can do now.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        received: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.received, self.fix = what, where, expected, received, fix
        super().__init__(self.text())

    def text(self) -> str:
        """The whole message, one piece a line."""
        pieces = (("Where", self.where), ("Expected", self.expected), ("Received", self.received), ("Fix", self.fix))
        return "\n".join([self.what, *(f"  {label}: {piece}" for label, piece in pieces if piece)])


class ConfigError(HGQError):
    """A recipe, rule, string or argument that means nothing."""


class DataError(HGQError):
    """Arrays with NaN, the wrong shape or the wrong type."""


class FileFormatError(HGQError):
    """A truncated, foreign or newer model file."""


class FreezeError(HGQError):
    """A Keras model that cannot become an ``ir.Graph``."""


class GraphError(HGQError):
    """An ``ir.Graph`` that breaks an invariant of ``hgq.ir.spec``."""


class PassError(HGQError):
    """A pass that broke a graph; names the pass and those that ran before it."""


class LoweringError(HGQError):
    """An op or option that a backend cannot take."""


class OutputError(HGQError):
    """A place that cannot be written: it exists, is read-only, or is full."""


class Int64Overflow(HGQError):
    """A value that would not fit the golden model's 64-bit integers."""


class ToolFailed(HGQError):
    """An external program that ended with an error or ran out of time."""


class ToolNotFound(HGQError):
    """An external program or optional package that is absent."""

    exit_code = 3


class MismatchError(HGQError):
    """Two representations of one model that differ."""

    exit_code = 1


class BudgetError(HGQError):
    """A resource budget that was not met."""

    exit_code = 1


def found_at(path: str | os.PathLike[str]) -> str:
    """What is there where a file is wanted: the `received` of an error."""
    return "a folder" if os.path.isdir(path) else "something that is no regular file" if os.path.exists(path) else "nothing there"


def require_file(path: str | os.PathLike[str], kind: str, expected: str, fix: str | None = None) -> None:
    """Raise `FileFormatError` unless a file is there, a "model" or whatever else its `kind` is."""
    if not os.path.isfile(path):
        raise FileFormatError(f"There is no such {kind} file.", where=os.fspath(path), expected=expected, received=found_at(path), fix=fix)
