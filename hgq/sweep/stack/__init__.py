"""Many models of one architecture, trained by one step: what `hgq sweep --vectorize` does.

=================  ==================================================================================
`traced.py`        `Traced`: a function of one model, as a graph
`native_step.py`   `NativeStep`: the training step as a program that one native op runs for all models, a whole epoch
                   … and where that is no way:
`values.py`        `Value`: a tensor of one model, for all of them
`rules.py`         how an op is done for many models, to the same bits
`plan.py`          which ops are done together, and in which order
`program.py`       `Program`: a traced function of one model, for many
`stack.py`         `Stack`: the variables of many models, their epochs, validations and costs
`lockstep.py`      whole runs side by side
=================  ==================================================================================
"""

from __future__ import annotations

from hgq.sweep.stack.stack import Stack

__all__ = ["Stack"]
