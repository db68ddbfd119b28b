"""`hgq why`: every LUT, digit and EBOP is found again, by counts of the tests' own."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from hgq.cli import app
from hgq.errors import ConfigError
from hgq.estimate import ebops_by_node, estimate
from hgq.estimate.kernels import Kernel, signed_digits
from hgq.estimate.why import Why
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Const
from hgq.numerics import Fixed
from hgq.plugins import backend

PART = "xc7a100t"


def formats(rng, shape):
    """Widths from 0 to 6."""
    return Fixed(np.ones(shape, int), rng.integers(-1, 3, shape), rng.integers(0, 4, shape))


def net(seed: int = 0):
    """Dense, ReLU, dense; weights of up to 6 bits, a third of them 0."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("net")
    y, inputs = b.input("x", Fixed(1, 2, 3).broadcast_to((6,)), "RND", "WRAP"), 6
    for number, units in enumerate((5, 3)):
        with b.layer(f"dense_{number}"):
            w = rng.integers(-31, 32, (inputs, units)) * (rng.random((inputs, units)) < 0.67)
            y = b.op("matmul", y, b.constant(w, Fixed(1, 2, 3).broadcast_to(w.shape), f"w{number}"), name=f"m{number}")
            y = b.op("relu", y, name=f"r{number}")
            y = b.quantize(y, Fixed(0, 4, 2).broadcast_to((units,)), "RND", "SAT", f"q{number}")
        inputs = units
    return b.graph(y)


CASES = {
    "conv": ((7, 6, 4), (3, 2, 2, 6), {"strides": (2, 1), "dilation": (1, 2), "padding": ((1, 1), (0, 1)), "groups": 2}),
    "matmul": ((3, 5), (5, 4), {}),
    "einsum": ((4, 3, 5), (3, 6, 5), {"equation": "akc,kbc->kab"}),
    "multiply": ((4, 3), (1, 3), {}),
}


def products(op, x, w, attrs):
    """(data index, weight index) of every product, by plain loops."""
    if op == "matmul":
        return [((p, i), (i, j)) for p in range(x[0]) for i in range(w[0]) for j in range(w[1])]
    if op == "einsum":
        return [((a, k, c), (k, b, c)) for a in range(x[0]) for k in range(w[0]) for b in range(w[1]) for c in range(w[2])]
    if op == "multiply":
        return [((p, j), (0, j)) for p in range(x[0]) for j in range(x[1])]
    found, geometry = [], (attrs["strides"], attrs["dilation"], attrs["padding"])
    for tap in np.ndindex(w[:2]):
        for c, m, *window in itertools.product(range(w[2]), range(w[3]), range(20), range(20)):
            axes = list(zip(window, tap, w[:2], x[:2], *geometry, strict=True))
            at = [o * s + t * d - low for o, t, _, _, s, d, (low, _) in axes]
            whole = all(o * s + (taps - 1) * d < n + low + high for o, _, taps, n, s, d, (low, high) in axes)  # the window is one
            if whole and all(0 <= a < n for a, n in zip(at, x[:2], strict=True)):
                found.append(((*at, (m // (w[3] // 2)) * w[2] + c), (*tap, c, m)))
    return found


@pytest.mark.parametrize("op", CASES)
def test_weights_by_loops(op):
    rng = np.random.default_rng(1)
    x, w, attrs = CASES[op]
    data, numbers = formats(rng, x), rng.integers(-20, 21, w)
    b = GraphBuilder("one")
    port = b.input("x", data, "RND", "WRAP")
    with b.layer("layer"):
        y = b.op(op, port, b.constant(numbers, Fixed(1, 5, 0).broadcast_to(w), "w"), name="y", **attrs)
    graph = b.graph(y)
    kernel = Kernel.of(graph, graph.node("layer/y"))
    assert kernel is not None
    uses, bits = np.zeros(w, int), np.zeros(w, int)
    for read, weight in products(op, x, w, attrs):
        uses[weight] += data.width[read] > 0
        bits[weight] += data.width[read]
    assert (kernel.uses == uses).all()
    assert (kernel.bits == bits).all()
    assert kernel.ebops.sum() == ebops_by_node(graph)["layer/y"]
    # Outputs: every element of the result belongs to one, and each of its weights changes it.
    result = np.arange(math.prod(graph.shapes()["layer/y"])).reshape(graph.shapes()["layer/y"])
    assert kernel.by_output(result).sum() == result.sum()
    found = Why(graph, PART)
    rows, weights = found.outputs(kernel), found.weights(kernel)
    assert len(weights) == np.count_nonzero(numbers)
    for row in rows:
        own = [weight for weight in weights if weight.output == row.index]
        assert math.isclose(sum(weight.lut for weight in own), row.lut, rel_tol=1e-9, abs_tol=1e-6)
        assert sum(weight.number_of_digits for weight in own) == row.digits
        assert sum(weight.ebops for weight in own) == row.ebops
        assert {weight.index for weight in own} == {index for index in kernel.weights_of(row.index) if numbers[index]}


def test_signed_digits_are_the_number_and_no_two_are_neighbours():
    for number in range(-700, 701):
        digits = signed_digits(number)
        assert sum(sign * 2**power for sign, power in digits) == number
        powers = [power for _, power in digits]
        assert all(a - b >= 2 for a, b in itertools.pairwise(powers))


def test_all_adds_up():
    graph = net()
    found = Why(graph, PART, 5.0)
    whole = estimate(graph, PART, 5.0)
    layers = {row.layer: row for row in found.layers()}
    assert math.isclose(sum(row.lut for row in layers.values()), sum(row.counts.lut.value for row in whole.layers if row.counts))
    for name, row in layers.items():
        nodes = found.nodes(name)
        assert math.isclose(sum(node.lut for node in nodes), row.lut)
        _, kernel, index = found.find(name)
        assert kernel is not None and index is None
        outputs = found.outputs(kernel)
        assert math.isclose(sum(o.lut + o.lut_behind for o in outputs), row.lut)  # all nodes here belong to outputs
        values = kernel.const.value
        for weight in found.weights(kernel):
            assert weight.value == values[weight.index]
            assert math.isclose(math.fsum(float(part) for part in weight.digits.split()), weight.value)


def test_shares_are_shapley_values():
    """Against the definition: the mean, over all orders of outputs, of what an output adds to the bill."""
    graph = net(3)
    shares = backend("rtl").shares(graph, None)
    from hgq.converters.rtl.summary import program_of
    from hgq.converters.rtl.trace import traced

    done = traced(graph)
    program = program_of(done)
    raw = {node.name: (new, program.elements[node.name]) for node, new in program.by_node()}
    counted = sum(program.ops[index].cost for new, _ in raw.values() for index in new)
    new, elements = raw["dense_0/m0"]

    def cone(end):
        found, stack = set(), [end]
        while stack:
            index = stack.pop()
            if index in new and index not in found:
                found.add(index)
                stack += program.ops[index].addr
        return found

    cones = [cone(end) for end in elements]
    mean = np.zeros(len(cones))
    orders = list(itertools.permutations(range(len(cones))))
    for order in orders:
        paid = set()
        for player in order:
            mean[player] += sum(program.ops[index].cost for index in cones[player] - paid) / len(orders)
            paid |= cones[player]
    scale = float(done.comb.cost) / counted
    np.testing.assert_allclose(shares["dense_0/m0"]["cost"], mean * scale, rtol=1e-9)
    assert shares["dense_0/m0"]["adders"].tolist() == [sum(program.ops[i].opcode in (0, 1) for i in own) for own in cones]
    assert (shares["dense_0/m0"]["shared"] <= shares["dense_0/m0"]["adders"]).all()


def test_what_if_is_what_the_estimate_says_without_the_weight():
    graph = net(5)
    found = Why(graph, PART, 5.0)
    _, kernel, _ = found.find("dense_1")
    row = next(row for row in found.weights(kernel) if row.number_of_digits > 1)
    answer = found.what_if(kernel, row)
    from hgq.ir.parts import layer_graphs

    def lut(value):
        numbers = kernel.const.value.copy()
        numbers[row.index] = value
        new = Const.minimal(kernel.const.name, np.rint(numbers * 8).astype(np.int64), np.full(numbers.shape, 3))
        part = layer_graphs(graph.with_(consts={**graph.consts, kernel.const.name: new}))["dense_1"]
        return estimate(part, PART, 5.0, "rtl", {"stages": "0"}).counts.lut.value

    assert answer.saves == lut(row.value) - lut(0.0)
    assert answer.shorter is not None
    gone = row.value - answer.shorter
    assert math.log2(abs(gone)).is_integer() and abs(gone) == min(abs(float(part)) for part in row.digits.split())
    assert answer.shorter_saves == lut(row.value) - lut(answer.shorter)


def test_one_weight_more_or_less():
    """A layer of one output and three weights of one digit has two adders; without one weight, one."""
    b = GraphBuilder("three")
    x = b.input("x", Fixed(0, 6, 0).broadcast_to((3,)), "RND", "WRAP")
    with b.layer("sum"):
        y = b.op("matmul", x, b.constant(np.array([[1], [2], [4]]), Fixed(0, 3, 0).broadcast_to((3, 1)), "w"), name="y")
    found = Why(b.graph(y), PART)
    _, kernel, _ = found.find("sum[0]")
    (output,) = found.outputs(kernel)
    assert (output.adders, output.shared, output.nonzero, output.digits) == (2, 0, 3, 3)
    assert 6 <= output.widest <= 9
    saved = found.what_if(kernel, found.weights(kernel)[0]).saves
    assert saved is not None and 5 <= saved <= 10  # one adder of 6 to 8 bits


@pytest.fixture
def model(tmp_path):
    return file.save(net(), tmp_path / "net.hgq")


def call(capfd, *arguments):
    with pytest.raises(SystemExit) as left:
        app.run(list(arguments))
    out, err = capfd.readouterr()
    return int(left.value.code or 0), out, err


def test_command_line(model, capfd):
    code, out, _ = call(capfd, "why", str(model), "--part", PART, "--json")
    answer = json.loads(out)
    assert code == 0
    assert [row["layer"] for row in answer["layers"]] == ["dense_0", "dense_1"]
    assert math.isclose(sum(row["share"] for row in answer["layers"]), 1)
    code, out, _ = call(capfd, "why", str(model), "dense_0[3]", "--part", PART, "--json", "--what-if", "1")
    answer = json.loads(out)
    assert [row["index"] for row in answer["outputs"]] == [[3]]
    assert {tuple(row["output"]) for row in answer["weights"]} == {(3,)}
    assert [row["saves"] is not None for row in answer["weights"]] == [True] + [False] * (len(answer["weights"]) - 1)
    heaviest = answer["weights"][0]
    code, out, _ = call(capfd, "why", str(model), f"dense_0{heaviest['index']}", "--part", PART)
    assert code == 0 and "pruned saves" in out and f"{heaviest['value']:g}" in out
    code, out, _ = call(capfd, "why", str(model), "--part", PART)
    assert code == 0 and "LUT a digit" in out


@pytest.mark.parametrize(
    ("of", "says"), [("dense_7", "dense_0, dense_1"), ("dense_0[9]", "[5]"), ("dense_0[1,2,3]", "[6, 5]"), ("dense_0/r0[0]", "no weights")]
)
def test_refusals(model, of, says):
    with pytest.raises(ConfigError) as error:
        Why(file.load(model), PART).find(of)
    assert says in str(error.value)
