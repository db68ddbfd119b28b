"""From an adder graph to pipeline stages, and the counts that `hgq estimate` wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import LoweringError

from .layout import Layout, inputs_of, layout_of, outputs_of
from .lower import ALKAID_ERRORS
from .schedule import pipeline
from .settings import Settings
from .trace import Traced


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A model cut into stages.

    Args:
        traced: The adder graph.
        comb: alkaid's program that is written: that of `traced`, or after fusing additions.
        fsm: alkaid's stages and registers.
        layout_in: Bits of ``model_inp``.
        layout_out: Bits of ``model_out``.
    """

    traced: Traced
    comb: Any
    fsm: Any
    layout_in: Layout
    layout_out: Layout

    @property
    def clocked(self) -> bool:
        """Whether there is a register, hence a clock."""
        return any(signal.reg for signal in self.fsm.signals.values())

    @property
    def stages(self) -> int:
        """Stages of logic between registers."""
        return len(self.fsm.logic)

    @property
    def latency_cycles(self) -> int:
        """Rising clock edges from a sample on ``model_inp`` to its result on ``model_out``: one for each register on the way."""
        (out,) = self.fsm.out_signals
        return int(out.schedule.bias) if self.clocked else 0

    @property
    def register_bits(self) -> int:
        """Bits of all registers, those at input and output included."""
        return sum(int(signal.width) for signal in self.fsm.signals.values() if signal.reg)

    @property
    def stage_delays(self) -> list[float]:
        """Delay of each stage, in additions."""
        return stage_delays(self.fsm)


def pipelined(traced: Traced, settings: Settings) -> Pipeline:
    """Cut the adder graph into stages.

    Raises:
        LoweringError: no output depends on an input, so there is no hardware to write.
    """
    _refuse_constant(traced)
    comb = program(traced, settings)
    with lowering(traced):
        fsm = pipeline(comb, cutoff=settings.latency_cutoff, stages=settings.stages)
    (inp,), (out,) = fsm.inp_signals, fsm.out_signals
    layout_in = layout_of(inputs_of(traced.graph), inp.precisions)
    layout_out = layout_of(outputs_of(traced.graph), out.precisions)
    return Pipeline(traced, comb, fsm, layout_in, layout_out)


def program(traced: Traced, settings: Settings) -> Any:
    """The program that is cut into stages.

    Raises:
        LoweringError: alkaid cannot fuse it.
    """
    with lowering(traced):
        return _fused(traced.comb) if settings.ternary_fuse else traced.comb


def _fused(comb: Any) -> Any:
    """Pairs of additions as one of three operands."""
    from alkaid.trace.passes import add_surrogate, dead_code_elimin, fuse_ternary_adders

    return add_surrogate(dead_code_elimin(fuse_ternary_adders(comb)), _skip_op8_cost=True)


def stage_delays(fsm: Any) -> list[float]:
    """Delay of each stage of alkaid's pipeline, in additions, counted from the registers before it."""
    from alkaid.trace.passes import add_surrogate

    return [max((op.latency for op in add_surrogate(comb, _skip_op8_cost=True).ops), default=0.0) for comb in fsm.logic.values()]


@contextmanager
def lowering(traced: Traced) -> Iterator[None]:
    """Turn what alkaid raises inside the block into a `LoweringError`."""
    try:
        yield
    except ALKAID_ERRORS as error:
        if isinstance(error, LoweringError):
            raise
        raise LoweringError(
            "alkaid cannot write this adder graph.",
            where=f"model {traced.graph.name}",
            received=f"{type(error).__name__}: {error}",
            fix="Please report it with the .hgq file, or try other options: `hgq export --backend rtl --list-options`.",
        ) from error


def depends_on_input(traced: Traced) -> bool:
    """Whether any output bit changes with an input bit."""
    comb = traced.comb
    return any(op.opcode == -1 for op in comb.ops) and int(np.sum(comb.out_kifs)) > 0


def _refuse_constant(traced: Traced) -> None:
    """Hardware without an input or an output bit is no module that a tool would take."""
    if depends_on_input(traced):
        return
    comb = traced.comb
    values = comb.predict(np.zeros((1, comb.shape[0])), n_threads=1)[0]
    shown = ", ".join(f"{value:g}" for value in values[:8]) + (", …" if len(values) > 8 else "")
    raise LoweringError(
        "No output of this model depends on its inputs: there is no hardware to write.",
        where=f"model {traced.graph.name}",
        expected="at least one output that changes with an input",
        received=f"outputs that are always {shown}",
        fix="Training has pruned everything: take a smaller beta or a larger budget, or calibrate again. `hgq inspect` shows what died.",
    )
