"""Our adder in Verilog: proved against signed arithmetic, and what Yosys makes of it against what `logic.py` counts."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
from hgq.converters.rtl.bits import AdderShape, Bits
from hgq.converters.rtl.logic import needed
from hgq.firmware_templates import render

from hgq.synth import engines

CASES = 120


def cases() -> list[SimpleNamespace]:
    """Parameters of adders that lose no upper bit, and some that drop lower ones."""
    rng = random.Random(1)
    found = []
    for _ in range(CASES):
        one = SimpleNamespace(
            bw0=rng.randint(1, 13),
            bw1=rng.randint(1, 13),
            s0=rng.randint(0, 1),
            s1=rng.randint(0, 1),
            shift=rng.randint(-7, 7),
            sub=rng.randint(0, 1),
        )
        top = max(one.bw0 - min(one.shift, 0), one.bw1 + max(one.shift, 0))
        one.full = top + 1 + (one.s0 != one.s1 or bool(one.sub))
        one.drop = rng.choice([0, 0, 1, 3]) if one.full > 4 else 0
        one.out = one.full - one.drop - (rng.random() < 0.3)
        found.append(one)
    return found


def instance(number: int, one: SimpleNamespace) -> str:
    parameters = f"{one.bw0},{one.bw1},{one.s0},{one.s1},{one.out},{one.drop},{one.shift},{one.sub}"
    return f"shift_adder #({parameters}) u{number} (a{number},b{number},o{number});"


@pytest.mark.slow
@pytest.mark.skipif(not engines.installed(), reason="no Yosys is installed")
def test_it_is_proved_to_add_and_subtract(tmp_path):
    """By Yosys' SAT solver, for all inputs, against Verilog's own signed arithmetic on 40 bits."""
    text, script = [], ["read_verilog -sv -defer @t.v @s.v"]
    for number, one in enumerate(cases()):
        ios = f"input [{one.bw0 - 1}:0] a{number}, input [{one.bw1 - 1}:0] b{number}, output [{one.out - 1}:0] o{number}"
        text.append(f"module ours{number}({ios}); {instance(number, one)} endmodule")
        a, b = (f"$signed({{1'b{sign} & {x}[{bits - 1}], {x}}})" for sign, x, bits in operands(number, one))
        text.append(f"module plain{number}({ios}); wire signed [39:0] a = {a}; wire signed [39:0] b = {b};")
        text.append(f"wire signed [39:0] r = (a <<< {max(-one.shift, 0)}) {'-' if one.sub else '+'} (b <<< {max(one.shift, 0)});")
        text.append(f"assign o{number} = r >>> {one.drop}; endmodule")
    names = range(CASES)
    script += ["hierarchy -check -top all", "proc"]
    for number in names:
        script += [f"miter -equiv -flatten plain{number} ours{number} miter{number}", f"sat -verify -prove trigger 0 miter{number}"]
    every = " ".join(f"ours{n} x{n}(); plain{n} y{n}();" for n in names)
    (tmp_path / "t.v").write_text("\n".join([*text, f"module all; {every} endmodule"]))
    (tmp_path / "s.v").write_text(render("rtl/shift_adder.v.j2"))
    engines.require().run("\n".join(script) + "\n", tmp_path, 600, tmp_path / "log")
    assert (tmp_path / "log").read_text().count("SAT proof finished - no model found: SUCCESS!") == CASES


def operands(number: int, one: SimpleNamespace) -> list[tuple[int, str, int]]:
    return [(one.s0, f"a{number}", one.bw0), (one.s1, f"b{number}", one.bw1)]


@pytest.mark.slow
@pytest.mark.skipif(not engines.installed(), reason="no Yosys is installed")
def test_a_synthesised_adder_has_the_luts_that_are_counted(tmp_path):
    """One LUT for each distinct pair of bits; a subtraction may take one more for its lowest bit. Chains of a few bits are no chains."""
    whole = [one for one in cases() if one.drop == 0 and one.out == one.full]
    modules, ports, body = [], [], []
    for number, one in enumerate(whole):
        ios = f"input [{one.bw0 - 1}:0] a{number}, input [{one.bw1 - 1}:0] b{number}, output [{one.out - 1}:0] o{number}"
        modules.append(f"(* keep_hierarchy *) module m{number}({ios}); {instance(number, one)} endmodule")
        ports.append(ios)
        body.append(f"m{number} i{number}(a{number},b{number},o{number});")
    top = f"module hgq_top({', '.join(ports)}); {' '.join(body)} endmodule"
    (tmp_path / "t.v").write_text("\n".join([*modules, top]))
    (tmp_path / "s.v").write_text(render("rtl/shift_adder.v.j2"))
    script = "read_verilog -sv -defer @t.v @s.v\nsynth_xilinx -family xc7 -flatten -noiopad -top hgq_top\nwrite_json @n.json\n"
    engines.require().run(script, tmp_path, 600, tmp_path / "log")
    strange = 0
    netlist = json.loads((tmp_path / "n.json").read_text())["modules"]
    for number, one in enumerate(whole):
        luts = sum(cell["type"].startswith("LUT") for cell in netlist[f"m{number}"]["cells"].values())
        bits = Bits()
        words = bits.block("port", 0, one.bw0), bits.block("port", 1, one.bw1)
        shape = AdderShape(bool(one.s0), bool(one.s1), one.out, one.drop, one.shift, bool(one.sub))
        bits.outputs = bits.add(*words, shape)
        found = needed(bits)
        pairs = found["pairs"] + found["gates"]
        strange += luts - pairs not in ((0, 1) if one.sub and one.shift >= 0 else (0,))
    assert strange <= 0.05 * len(whole)
