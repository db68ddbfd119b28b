"""What a synthesiser is asked for, bit by bit: by hand, and as Yosys finds it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hgq.converters.rtl.bits import ONE, ZERO, AdderShape, Bits
from hgq.converters.rtl.depth import carry_depth
from hgq.converters.rtl.logic import logic, needed
from hgq.converters.rtl.tables import table_logic

from benchmarks.corpus_designs import design
from hgq import plugins
from hgq.backend import Options
from hgq.synth import engines, synthesise

PART = "xc7a100tcsg324-1"


def pipeline(graph, **extra):
    return plugins.backend("rtl").pipeline(graph, Options(part=PART, clock_ns=5.0, extra=extra))


def counted(bits: Bits, *words: list[int]) -> dict[str, int]:
    bits.outputs = [bit for word in words for bit in word]
    return {name: value for name, value in needed(bits).items() if value}


def test_an_addition_has_a_lut_for_each_pair_of_bits():
    bits = Bits()
    a, b = bits.block("port", 0, 6), bits.block("port", 1, 6)
    # b * 4: two bits of a are wires, four pairs, then the repeated sign of a with the two highest of b and once with its sign
    total = bits.add(a, b, AdderShape(True, True, 9, 0, 2, False))
    assert total[:2] == a[:2]
    assert counted(bits, total) == {"pairs": 6, "chains": 1, "chain_bits": 7, "carry2": 8, "carry4": 2, "carry8": 1}


@pytest.mark.parametrize("constant", [0b0111, 0b1010, 0b0001, 0b1000])
@pytest.mark.parametrize("subtract", [False, True])
def test_constants_at_the_low_end_of_a_sum_are_no_logic(constant, subtract):
    """``(x << 3) +- constant``: the lowest three bits are those of ``+- constant``, for every x."""
    bits = Bits()
    x = [ZERO] * 3 + bits.block("port", 0, 4)
    low = [(constant >> bit & 1) for bit in range(8)]
    y = bits.add(x, low, AdderShape(False, False, 8, 0, 0, subtract))
    expected = (-constant if subtract else constant) % 8
    assert y[:3] == [expected >> bit & 1 for bit in range(3)]
    assert all(bit > ONE for bit in y[3:7])
    found = counted(bits, y)
    assert found.get("chain_bits", 0) <= 5 and "pairs" not in found


def test_sums_of_three_are_told_by_how_many_bits_vary():
    """``(a + b) + c`` of four bits each; then c is half a constant, and at its positions only two vary."""
    for c_varies in (4, 2):
        bits = Bits()
        a, b, c = (bits.block("port", number, 4) for number in range(3))
        c = c[:c_varies] + [ONE] * (4 - c_varies)
        inner = bits.add(a, b, AdderShape(False, False, 5, 0, 0, False))
        found = counted(bits, bits.add(inner, c, AdderShape(False, False, 6, 0, 0, False), joined=True))
        assert (found.get("joined", 0), found.get("joined_constant", 0)) == (c_varies, 4 - c_varies)
        assert "joined" not in counted(bits, bits.add(inner, c, AdderShape(False, False, 6, 0, 0, False)))


def test_only_what_is_read_is_counted():
    bits = Bits()
    a, b = bits.block("port", 0, 6), bits.block("port", 1, 6)
    total = bits.add(a, b, AdderShape(True, True, 7, 0, 0, False))
    assert counted(bits, total[:3]) == {"pairs": 3, "chains": 1, "chain_bits": 3, "carry2": 4, "carry4": 1, "carry8": 1}


def test_a_relu_is_part_of_the_addition_behind_it_unless_the_carry_reads_it():
    second, first = Bits(), Bits()
    for bits, swap in ((second, False), (first, True)):
        x, y = bits.block("port", 0, 5), bits.block("port", 1, 4)
        relu = [bits.blank(bit, x[-1]) for bit in x[:4]]
        total = bits.add(*((relu, y) if swap else (y, relu)), AdderShape(False, False, 5, 0, 0, False))
        found = counted(bits, total)
        assert found["pairs"] == 4
        assert (found.get("merged", 0), found.get("gates", 0)) == ((0, 4) if swap else (4, 0))


def test_equal_bits_share_one_register_and_waiting_ones_a_shift_register():
    bits = Bits()
    (x,) = bits.block("port", 0, 1)
    chain = [x]
    for _ in range(4):
        chain.append(bits.bit("register", chain[-1]))
    assert bits.bit("register", x) == chain[1]
    assert counted(bits, [chain[-1]]) == {"shift_registers": 1, "waiting": 4}
    again = Bits()
    (x,) = again.block("port", 0, 1)
    first = again.bit("register", x)
    second = again.bit("register", first)
    assert counted(again, [second, again.bit("register", second), again.both(0, first, second)])["registers"] == 3


@pytest.mark.parametrize("function", ["blank", "choose", "both"])
def test_gates_of_constants_are_what_they_come_to(function):
    """Against the truth table: fold what is constant, and read the bits that are left off the rest."""
    bits = Bits()
    x, y, key = (bits.bit("port", name, 0) for name in "xyz")
    made = {"blank": lambda a, b, _: bits.blank(a, b), "choose": lambda a, b, c: bits.choose(c, a, b), "both": None}
    truth = {"blank": lambda a, b, _: a & (1 - b), "choose": lambda a, b, c: a if c else b, "both": None}
    names = range(3) if function == "both" else (0,)
    for name in names:
        make = made[function] or (lambda a, b, _, name=name: bits.both(name, a, b))
        true = truth[function] or (lambda a, b, _, name=name: (a & b, a | b, a ^ b)[name])
        for operands in np.ndindex(3, 3, 3):
            given = [(ZERO, ONE, bit)[operand] for operand, bit in zip(operands, (x, y, key), strict=True)]
            result = make(*given)
            for values in np.ndindex(2, 2, 2):
                known = dict(zip((x, y, key), values, strict=True)) | {ZERO: 0, ONE: 1}
                wanted = true(*(known[bit] for bit in given))
                if result in known:
                    assert known[result] == wanted
                elif bits.kind[result] == "not":
                    assert 1 - known[bits.made_of[result][0]] == wanted


def test_a_small_table_is_a_function_of_the_bits_that_matter():
    bits = Bits()
    index = bits.block("port", 0, 4)
    value = np.arange(16)
    entries = (value >> 3 & 1) | (value & 1 ^ 1) << 1 | 1 << 2 | (value >> 1 & value >> 2 & 1) << 3
    copy, inverse, constant, both = bits.look_up(entries, index, 4)
    assert (copy, inverse, constant) == (index[3], bits.invert(index[0]), ONE)
    assert set(bits.gate_inputs(both)) == {index[1], index[2]}


def of_bit(values) -> bytes:
    return np.asarray(values, np.int64).tobytes()


def test_a_table_of_eight_bits_has_four_leaves_of_each_bit_and_no_more():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, 256)
    small = gates_by_hand(tuple(values.tolist()), set())
    assert table_logic(of_bit(values), 8, (0,)) == {"leaf": 4, "node": 0, "small_node": small}
    # both bits choose by the two lowest index bits; they have two functions of the others in common
    f, g, h = rng.integers(0, 2, (3, 64))
    first, second = np.stack([f, g, f, h], axis=1), np.stack([1 - g, f, np.zeros(64, int), f], axis=1)
    known: set = set()
    small = sum(gates_by_hand(tuple(bit.reshape(-1).tolist()), known) for bit in (first, second))
    assert table_logic(of_bit((first + 2 * second).reshape(-1)), 8, (0, 1)) == {"leaf": 3, "node": 0, "small_node": small}


def gates_by_hand(function: tuple[int, ...], known: set) -> int:
    """Of the diagram whose root chooses by the lowest index bit: a function or its inverse is counted once."""
    function = tuple(value ^ function[0] for value in function)
    if function in known or len(set(function)) == 1:
        return 0
    known.add(function)
    low, high = function[::2], function[1::2]
    constant = sum(len(set(half)) == 1 for half in (low, high))
    here = 0 if low == high else (3, 1, 0)[constant]
    return here + gates_by_hand(low, known) + gates_by_hand(high, known)


def test_gates_of_larger_tables():
    index = np.arange(512)
    parity, all_ones = np.array([bin(number).count("1") % 2 for number in index]), index == 511
    assert table_logic(of_bit(parity), 9, (0,)) == {"leaf": 0, "node": 8 * 3, "small_node": 0}
    assert table_logic(of_bit(all_ones), 9, (0,)) == {"leaf": 0, "node": 8, "small_node": 0}
    curve = np.round(40 * np.tanh((index - 256) / 90)).astype(int) & 127
    known: set = set()
    by_hand = sum(gates_by_hand(tuple(int(value) for value in curve >> bit & 1), known) for bit in range(7))
    assert table_logic(of_bit(curve), 9, tuple(range(7)))["node"] == by_hand > 100


def test_tables_next_to_registers_are_block_ram_from_a_size_on():
    """Yosys' own border for Xilinx, found with tables of random bits: 8,192 bits stay in LUTs."""
    rng = np.random.default_rng(1)
    for width, clocked, blocks in ((8, True, 0), (9, True, 1), (9, False, 0)):
        bits = Bits()
        out = bits.look_up(rng.integers(0, 1 << width, 1024), bits.block("port", 0, 10), width, clocked)
        found = counted(bits, bits.registered(out) if clocked else out)
        assert found.get("blocks", 0) == blocks and found.get("block_registers", 0) == blocks * width
        assert ("table_node" in found or "middle_node" in found) == (blocks == 0)


def test_bits_of_a_large_table_that_depend_on_few_are_gates():
    bits = Bits()
    index = bits.block("port", 0, 9)
    value = np.arange(512)
    few, wire, constant = bits.look_up((value >> 7 & value & 1) | (value >> 4 & 1) << 1 | 4, index, 3)
    assert (wire, constant) == (index[4], ONE) and bits.tables == []
    assert set(bits.gate_inputs(few)) == {index[0], index[7]}


def test_an_addition_that_only_a_product_reads_is_in_its_block():
    for inner, square, outside in ((True, False, False), (False, False, True), (True, True, True)):
        bits = Bits()
        a, b, c = (bits.block("port", name, 6) for name in range(3))
        total = bits.registered(bits.add(a, b, AdderShape(True, True, 7, 0, 0, True)))
        result = bits.multiply(total, total if square else c, 13)
        found = counted(bits, result if inner else result + total)
        assert found["dsp"] == 1 and found.get("squares", 0) == square
        assert ("pairs" in found, "dsp_pairs" in found) == (outside, not outside)
        assert found.get("registers", 0) == (0 if inner else 7)


def test_functions_of_five_and_six_bits_take_further_luts_of_four():
    rng = np.random.default_rng(5)
    for inputs, further in ((4, 0), (5, 1), (6, 3)):
        bits = Bits()
        out = bits.look_up(rng.integers(0, 2, 1 << inputs), bits.block("port", 0, inputs), 1)
        assert counted(bits, out).get("further", 0) == further
    bits = Bits()
    x, y, z, first, second = (bits.bit("port", name, 0) for name in range(5))
    inner = bits.choose(first, x, y)
    assert counted(bits, [bits.choose(second, inner, z)]) == {"gates": 1, "further": 1}  # five bits: one LUT of six, two of four


def test_small_products_are_functions_of_their_bits_or_sums():
    bits = Bits()
    a, b, c = bits.block("port", 0, 3), bits.block("port", 1, 3), bits.block("port", 2, 4)
    assert counted(bits, bits.multiply(a, b, 6)) == {"gates": 6}
    again = Bits()
    c, d = again.block("port", 0, 4), again.block("port", 1, 4)
    assert counted(again, again.multiply(c, d, 8)) == {"small_products": 1, "small_area": 16}


def test_times_of_stages_survive_single_precision():
    """alkaid raised KeyError where float32 and float64 order two ends differently."""
    found = pipeline(design("attention", 0))
    assert found.stages == found.latency_cycles - 1 and max(found.stage_delays) < 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense_narrow", "dense_batch_norm", "conv_line", "residual", "dense_leaky", "einsum", "maxima"])
def test_yosys_finds_about_these_luts_and_exactly_these_registers(name):
    if not engines.installed():
        pytest.skip("no Yosys is installed")
    graph = design(name, 1)
    found, net = logic(pipeline(graph)), synthesise(graph, PART, 5.0).netlist
    luts = sum(found[key] for key in ("pairs", "gates", "wide", "shift_registers"))
    assert net.lut == pytest.approx(luts, rel=0.08, abs=5)
    assert net.ff == pytest.approx(found["registers"], rel=0.04, abs=6)
    assert net.dsp == found["dsp"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("edges", 2), ("table_alone", 0)])
def test_yosys_moves_registers_behind_tables_and_takes_block_ram(name, seed):
    if not engines.installed():
        pytest.skip("no Yosys is installed")
    graph = design(name, seed)
    found, net = logic(pipeline(graph)), synthesise(graph, PART, 5.0).netlist
    assert net.ff == pytest.approx(found["registers"] + found["middle_registers"], rel=0.02, abs=2)
    assert net.bram == found["blocks"]


def test_a_pipeline_without_stages_has_no_register():
    graph = design("dense_narrow", 0)
    assert logic(pipeline(graph, stages="0"))["registers"] == 0
    clocked = pipeline(graph)
    found = logic(clocked)
    assert 0 < found["registers"] + found["waiting"] <= clocked.register_bits
    assert SimpleNamespace(**found).pairs <= clocked.comb.cost


def test_carry_cells_on_the_longest_path():
    """A sum of 8 bits is four cells. The next one's first cell waits for the first sum's first cell, its last for all."""
    bits = Bits()
    a, b, c = (bits.block("port", name, 8) for name in range(3))
    first = bits.add(a, b, AdderShape(False, False, 8, 0, 0, False))
    assert depth_of(bits, first) == 4
    second = bits.add(first, c, AdderShape(False, False, 8, 0, 0, False))
    assert depth_of(bits, second) == 5  # four of the first and one, or one and four: never eight
    shifted = bits.add(c, first, AdderShape(False, False, 14, 0, 6, False))  # two bits of c meet the lowest of the first sum
    assert depth_of(bits, shifted) == 5
    late = bits.add(c[:2], first[6:], AdderShape(False, False, 10, 0, 0, False))  # begins with the last cell of the first sum
    assert depth_of(bits, late) == 4 + 5
    assert depth_of(bits, bits.add(bits.registered(first), c, AdderShape(False, False, 8, 0, 0, False))) == 4


def depth_of(bits: Bits, word: list[int]) -> int:
    bits.outputs = word
    return carry_depth(bits)
