"""Random graphs, and frozen models given as files, through qonnx's executor against the golden model. Runs where qonnx is.

    python run_qonnx.py MODEL.hgq …

prints one line of JSON: mismatching outputs by name of the case.
"""

import json
import sys

import numpy as np
import onnx
from hgq.converters.qonnx import QONNX

from hgq.backend import Options
from hgq.ir import file, interpret
from tests import random_graphs as graphs


def cases():
    for seed in range(8):
        yield f"dense {seed}", graphs.random_graph(seed, quantized_output=seed % 2 == 0)
    yield "branched", graphs.branched_graph(1)
    for case in graphs.CONVS:
        yield f"conv {case}", graphs.random_conv_graph(case)
    for op in ("max_pool", "sum_pool"):
        yield from ((f"{op} {case}", graphs.random_pool_graph(case, op=op)) for case in graphs.POOLS)
    for op in ("reduce_sum", "reduce_max", "reduce_min"):
        yield from ((f"{op} {case}", graphs.random_reduction_graph(case, op)) for case in graphs.REDUCTIONS)
    yield from ((f"lookup {case}", graphs.random_lookup_graph(case)) for case in graphs.LOOKUPS)
    for constant in (True, False):
        yield from ((f"einsum {case} {constant}", graphs.random_einsum_graph(case, constant=constant)) for case in graphs.EINSUMS)
    for path in sys.argv[1:]:
        yield path, file.load(path)


def main() -> None:
    found = {}
    for name, graph in cases():
        samples = graphs.random_samples(graph, 1000 if name.endswith(".hgq") else 200, 3)
        x = {port: np.float32(value).astype(np.float64) for port, value in samples.items()}
        onnx.checker.check_model(onnx.load_model_from_string(QONNX().emit(graph, Options(name="dut")).data("dut.onnx")))
        got, wanted = QONNX().simulate(graph, Options(name="dut"), x, "."), interpret.run(graph, x)
        found[name] = sum(int((got[output] != wanted[output]).sum()) for output in wanted) if set(got) == set(wanted) else -1
    print(json.dumps(found))


if __name__ == "__main__":
    main()
