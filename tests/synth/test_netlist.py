"""Counting cells and levels, on netlists written by hand: every figure can be checked with a pencil."""

from __future__ import annotations

import json

import pytest

from hgq.errors import ConfigError, ToolFailed
from hgq.synth import engines, netlist
from hgq.synth.targets import target_of, targets


def cell(kind: str, inputs: dict, outputs: dict) -> dict:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {"type": kind, "connections": {**inputs, **outputs}, "port_directions": directions}


@pytest.fixture
def write(tmp_path):
    def run(cells: dict) -> netlist.Netlist:
        path = tmp_path / "netlist.json"
        path.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
        return netlist.read(path, "top", target_of("xc7"))

    return run


def test_counts_and_depth(write):
    """Two LUTs and two carry cells in a row from register to register; a third LUT alone behind it."""
    found = write(
        {
            "in": cell("FDRE", {"C": [1], "D": [2]}, {"Q": [3]}),
            "a": cell("LUT2", {"I0": [3], "I1": [3]}, {"O": [4]}),
            "c0": cell("CARRY4", {"S": [4, "0", "0", "0"], "CI": ["0"]}, {"CO": [5, 6, 7, 8], "O": [9, 10, 11, 12]}),
            "c1": cell("CARRY4", {"S": ["0", "0", "0", "0"], "CI": [8]}, {"CO": [], "O": [13]}),
            "b": cell("LUT6", {"I0": [13]}, {"O": [14]}),
            "out": cell("FDRE", {"C": [1], "D": [14]}, {"Q": [15]}),
            "far": cell("LUT2", {"I0": [15]}, {"O": [16]}),
            "delay": cell("SRL16E", {"D": [3]}, {"Q": [17]}),
            "not": cell("INV", {"I": [3]}, {"O": [18]}),
            "ram": cell("RAMB36E1", {"ADDR": [3]}, {"DO": [19]}),
            "mult": cell("DSP48E1", {"A": [3]}, {"P": [20]}),
            "scope": {"type": "$scopeinfo", "connections": {}, "port_directions": {}},
        }
    )
    assert (found.lut, found.ff, found.carry, found.dsp, found.bram, found.inverter) == (4, 2, 2, 1, 2, 1)
    assert found.luts_by_size == {2: 2, 6: 1}
    assert (found.depth_lut, found.depth_carry) == (2, 2)


def test_a_multiplier_that_has_lost_a_factor_is_seen(write):
    whole = cell("DSP48E1", {"A": [3, "0"], "B": [4, "0"]}, {"P": [20]})
    lost = cell("DSP48E1", {"A": [3, "0"], "B": ["0", "0"]}, {"P": [21]})
    assert write({"whole": whole}).no_factor == 0
    assert write({"whole": whole, "lost": lost}).no_factor == 1


@pytest.mark.slow
def test_yosys_loses_the_factor_of_a_squared_difference(tmp_path):
    """Of all that the corpus leaves out of the fit of Series 7, the least: once this fails, synthesise those designs again."""
    if not engines.installed():
        pytest.skip("no Yosys is installed")
    (tmp_path / "square.v").write_text(
        "module top(input clk, input signed [6:0] a, b, output reg signed [15:0] p); reg signed [7:0] d;\n"
        "always @(posedge clk) begin d <= a - b; p <= d * d; end endmodule\n"
    )
    lost = {}
    for family in ("xc7", "xcup"):
        script = f"read_verilog -sv @square.v\n{target_of(family).command} -top top\nwrite_json @netlist.json\n"
        engines.require().run(script, tmp_path, 300, tmp_path / "yosys.log")
        lost[family] = netlist.read(tmp_path / "netlist.json", "top", target_of(family)).no_factor
    assert lost == {"xc7": 1, "xcup": 0}


def test_a_carry_cell_of_a_lattice_is_two_luts(tmp_path):
    path = tmp_path / "n.json"
    path.write_text(
        json.dumps({"modules": {"t": {"cells": {"c": cell("CCU2C", {"A0": [2]}, {"S0": [3]}), "l": cell("LUT4", {}, {"Z": [4]})}}}})
    )
    assert netlist.read(path, "t", target_of("ecp5")).lut == 3


def test_what_is_not_mapped_is_an_error(write):
    with pytest.raises(ToolFailed, match=r"cannot count[\s\S]*\$mul, MAGIC"):
        write({"a": cell("MAGIC", {}, {}), "b": cell("$mul", {}, {})})


def test_no_netlist(tmp_path):
    with pytest.raises(ToolFailed, match="left no netlist"):
        netlist.read(tmp_path / "none.json", "top", target_of("xc7"))


def test_an_unknown_target():
    with pytest.raises(ConfigError, match=r"xc7, xcu, xcup, ecp5, ice40, gowin, cyclonev[\s\S]*'pdp11'"):
        target_of("pdp11")


def test_the_classes_of_a_target_do_not_overlap():
    names = "LUT4 CARRY4 FDRE DSP48E1 RAMB18E1 INV CCU2C TRELLIS_FF SB_LUT4 SB_CARRY SB_DFFE ALU DFFR MISTRAL_ALUT5 MISTRAL_FF".split()
    for target in targets().values():
        for name in names:
            classes = [key for key in target.cells if target.class_of(name) == key]
            assert len(classes) <= 1
