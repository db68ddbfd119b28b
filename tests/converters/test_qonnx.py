"""The qonnx backend: what it writes, and that qonnx's executor computes what the golden model does."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hgq.converters.qonnx import proto
from hgq.converters.qonnx.lower import LOWERINGS

from hgq import cache, plugins
from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.ir.ops import OPS
from hgq.numerics import Fixed
from tests.random_graphs import random_graph

ROOT = Path(__file__).resolve().parents[2]


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """A protobuf message, read by the rules of its wire format."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, varint()))
        else:
            size = varint() if key & 7 == 2 else 4
            found.append((key >> 3, message[at : at + size]))
            at += size
    return found


def test_every_op_of_the_graph_can_be_written():
    assert set(LOWERINGS) == set(OPS)


def test_the_file_is_the_model_and_always_the_same():
    graph = random_graph(2, quantized_output=True)
    backend = plugins.backend("qonnx")
    project = backend.emit(graph, Options(name="dut", extra={"batch": "7"}))
    assert project.digest() == backend.emit(graph, Options(name="dut", extra={"batch": "7"})).digest()
    model = dict(fields(project.data("dut.onnx")))
    body = fields(model[7])
    nodes = [fields(part) for number, part in body if number == 1]
    types = [dict(node)[4].decode() for node in nodes]
    assert types.count("MatMul") == 3 and "Quant" in types
    assert {dict(node).get(7, b"").decode() for node in nodes} == {"", "qonnx.custom_op.general"}
    produced = [dict(node)[2] for node in nodes]
    assert len(set(produced)) == len(produced)
    stored = {dict(fields(part))[8] for number, part in body if number == 5}
    ports = {dict(fields(part))[1] for number, part in body if number == 11}
    known = stored | ports
    for node in nodes:  # in order of definition, every operand known
        assert {part for number, part in node if number == 1} <= known
        known.add(dict(node)[2])
    (port,) = [fields(part) for number, part in body if number == 11]
    dims = fields(dict(fields(dict(fields(dict(port)[2]))[1]))[2])
    assert [dict(fields(dim))[1] for _, dim in dims] == [7, 8]


def test_numbers_are_written_as_protobuf_says():
    assert proto._varint(300) == b"\xac\x02" and proto._varint(-1) == b"\xff" * 9 + b"\x01"
    message = dict(fields(proto.tensor("t", np.array([[1.5, -2.0]]))))
    assert message[8] == b"t" and np.frombuffer(message[9], "<f4").tolist() == [1.5, -2.0]


def test_what_float32_cannot_hold_is_refused_by_layer():
    b = GraphBuilder("wide")
    x = b.input("x", Fixed(1, np.full(4, 10), np.full(4, 5)), "RND", "SAT")
    with b.layer("dense"):
        y = b.op("matmul", x, b.constant(np.full((4, 1), 1023), Fixed(1, 6, 5), "kernel"))
    with pytest.raises(LoweringError, match=r"(?s)too short.*Layer dense: sums may need 27 bits"):
        plugins.backend("qonnx").emit(b.graph(y), Options())
    with pytest.raises(ConfigError, match="batch is a number"):
        plugins.backend("qonnx").emit(random_graph(1), Options(extra={"batch": "-3"}))


@pytest.mark.slow
def test_qonnx_computes_what_the_golden_model_does(tmp_path):
    """Random graphs of every op, rounding and overflow, and two imported models, in an environment of qonnx's own."""
    from hgq.freeze import freeze
    from hgq.imports import import_model

    home = cache.folder("venvs", "qonnx-1.0.0")
    python = home / "bin" / "python"
    if not (home / "ready").is_file():
        packages = ("qonnx==1.0.0", "onnxruntime", "typer", "rich", "pydantic", "jinja2")
        for command in ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-q", *packages]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
            if done.returncode:
                pytest.skip(f"qonnx cannot be installed here: {done.stderr[-300:]}")
        (home / "ready").touch()
    with zipfile.ZipFile(ROOT / "tests" / "imports" / "qkeras_references.zip") as archive:
        for name in ("mlp_relu_po2.keras", "conv2d.h5"):
            archive.extract(name, tmp_path)
            file.save(freeze(import_model(tmp_path / name).model), tmp_path / f"{Path(name).stem}.hgq")
    models = sorted(map(str, tmp_path.glob("*.hgq")))
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("run_qonnx.py")), *models],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 60 and set(models) <= set(found)
    assert {name: count for name, count in found.items() if count} == {}
