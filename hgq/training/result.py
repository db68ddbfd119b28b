"""What a run delivered."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hgq.errors import FileFormatError
from hgq.output import write_file_atomically

FILE = "result.json"


@dataclass(frozen=True)
class Point:
    """One delivered model.

    Args:
        budget: How much of `resource` was asked for; None without a budget.
        ebops: EBOPs of the frozen, calibrated model.
        epoch: Where it comes from.
        val: Validation metric (accuracy, or mean squared error).
        test: Test metric.
        test_samples: On how many samples.
        keras_file, hgq_file: Relative to the run directory.
        within: Whether what it takes of `resource` lies in ``[(1 - tolerance) * budget, budget]``; True without a budget.
        resource: ``ebops`` or ``lut``: what training charged for.
        lut: LUTs of its RTL by `hgq estimate`, where that was the resource.
        latency_budget_ns: Nanoseconds from input to output that were asked for, or None.
        latency_ns: Those of its RTL by `hgq estimate`, with the pipeline that was chosen for it (in the meta data of the .hgq file).
        latency_cycles: Clock cycles of that pipeline.
        clock_ns: Clock period of that pipeline; None where no pipeline is within the latency.
    """

    budget: float | None
    ebops: int
    epoch: int
    val: float
    test: float
    test_samples: int
    keras_file: str
    hgq_file: str
    within: bool
    resource: str = "ebops"
    lut: int | None = None
    latency_budget_ns: float | None = None
    latency_ns: float | None = None
    latency_cycles: int | None = None
    clock_ns: float | None = None

    @property
    def spent(self) -> int:
        """How much of `resource` it takes."""
        return self.ebops if self.lut is None else self.lut


@dataclass(frozen=True)
class RunResult:
    """What `train` made.

    Args:
        directory: The run directory.
        points: One a budget, from large to small.
        main: Index of the point that is ``model.keras`` and ``model.hgq``: the middle one.
        metric: What `Point.val` and `Point.test` are: ``accuracy`` or ``mse``.
        epochs: Epochs trained, in all sessions.
        seconds: Seconds of them.
    """

    directory: Path
    points: tuple[Point, ...]
    main: int
    metric: str
    epochs: int
    seconds: float

    @property
    def point(self) -> Point:
        """The main model."""
        return self.points[self.main]

    @property
    def ok(self) -> bool:
        """Whether every budget was met."""
        return all(point.within for point in self.points)

    def write(self) -> None:
        """Write ``result.json`` into the run directory."""
        write_file_atomically(self.directory / FILE, json.dumps(self.to_dict(), indent=1) + "\n", force=True)

    @classmethod
    def read(cls, directory: Path) -> RunResult:
        """The result of a finished run.

        Raises:
            FileFormatError: ``result.json`` is damaged.
        """
        path = directory / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            points = tuple(Point(**point) for point in content["points"])
            return cls(directory, points, content["main"], content["metric"], content["epochs"], content["seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError("The result of the run is damaged.", where=str(path), received=str(error)) from None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "directory": str(self.directory), "points": [asdict(point) for point in self.points], "ok": self.ok}
