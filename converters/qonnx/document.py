"""The page that goes with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hgq import __version__

if TYPE_CHECKING:
    from hgq.backend import Options
    from hgq.ir.graph import Graph


def document(graph: Graph, options: Options) -> str:
    """``README.md``."""
    formats = graph.formats()
    rows = [
        f"| {port.name} | in | (batch, {', '.join(map(str, port.shape))}) | real numbers; the model quantizes them |"
        for port in graph.inputs
    ]
    for number, name in enumerate(graph.outputs):
        fixed = formats[name]
        shape = ", ".join(map(str, fixed.shape))
        rows.append(f"| output_{number} | out | (batch, {shape}) | exact, up to {int(fixed.width.max(initial=0))} bits |")
    return f"""# {options.name}

Written by hgqc {__version__} from the model `{graph.name}`, digest `{graph.digest()[:16]}`.

`{options.name}.onnx` computes what the firmware computes, bit for bit, in float32 that holds every number exactly. `Quant` nodes
(domain `qonnx.custom_op.general`) say the type of weights and values; where one alone cannot round or wrap as the hardware does, standard
nodes before it do.

| port | | shape | |
|---|---|---|---|
{chr(10).join(rows)}

```python
import numpy as np, onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

model = ModelWrapper("{options.name}.onnx")
outputs = execute_onnx(model, {{"{graph.inputs[0].name}": x.astype(np.float32)}})   # x: the batch that the model was exported for
```
"""
