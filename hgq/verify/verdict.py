"""The result of a verification."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Divergence:
    """Where a representation first differs, on one small input.

    Args:
        node: The first node of the graph whose value differs; empty when it could not be narrowed down.
        layer: The Keras layer it came from.
        op: What it does.
        input: The sample by input name, as real numbers: every element that can be 0 is.
        expected: The golden model's outputs on it, by name.
        received: The representation's.
        note: What else is known.
    """

    node: str
    layer: str
    op: str
    input: dict[str, Any]
    expected: dict[str, Any]
    received: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One representation against the golden model.

    Args:
        name: Which, such as ``keras`` or ``rtl``.
        what: In words.
        samples: Samples compared.
        mismatches: Samples of which at least one output bit differed.
        seconds: Wall time, compilation included.
        skipped: Why it was not run; None when it was.
        fix: How to get what was missing.
        divergence: On a mismatch.
    """

    name: str
    what: str
    samples: int = 0
    mismatches: int = 0
    seconds: float = 0.0
    skipped: str | None = None
    fix: str | None = None
    divergence: Divergence | None = None

    @property
    def ok(self) -> bool:
        """Whether it ran and nothing differed."""
        return self.skipped is None and self.mismatches == 0


@dataclass(frozen=True)
class Verdict:
    """All checks of one graph.

    Args:
        digest: The graph's.
        samples: Samples given; corner and random samples are on top.
        corners: Corner and random samples.
        checks: One a representation.
    """

    digest: str
    samples: int
    corners: int
    checks: tuple[Check, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """No mismatch anywhere; skipped checks do not count either way."""
        return all(check.mismatches == 0 for check in self.checks)

    @property
    def skipped(self) -> tuple[Check, ...]:
        """Checks that did not run."""
        return tuple(check for check in self.checks if check.skipped is not None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "ok": self.ok}

    def rows(self) -> list[dict[str, Any]]:
        """As a table for people."""
        return [
            {
                "representation": check.name,
                "what": check.what,
                "samples": check.samples if check.skipped is None else None,
                "mismatches": check.mismatches if check.skipped is None else None,
                "seconds": round(check.seconds, 1) if check.skipped is None else None,
                "result": "exact" if check.ok else f"skipped: {check.skipped}" if check.skipped else "MISMATCH",
            }
            for check in self.checks
        ]
