"""Families of devices as Yosys knows them: the command that maps to a family, and what its cells are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from hgq.errors import ConfigError


@dataclass(frozen=True)
class Target:
    """A family.

    Args:
        name: What Yosys calls it.
        command: The synthesis command, without the name of the top module.
        cells: Class of a cell -> regular expression of the types of its cells. Classes: ``lut`` (the last group is its number of inputs),
            ``inverter``, ``shift_register`` (in a LUT), ``carry``, ``mux`` (behind LUTs, costs none), ``ff``, ``dsp``, ``bram`` (18 Kb),
            ``bram36``, ``lutram``, ``other`` (clock buffers and the like). Cells of no class are an error: a count would miss them.
        luts_of_carry: LUTs that one carry cell takes besides those that are cells of their own.
    """

    name: str
    command: str
    cells: Mapping[str, str]
    luts_of_carry: int = 0

    def class_of(self, cell: str) -> str | None:
        """The class of a type of cell; None if it has none."""
        return next((name for name, pattern in self.cells.items() if re.fullmatch(pattern, cell)), None)

    def inputs_of_lut(self, cell: str) -> int:
        """Inputs of a LUT, from the type of its cell."""
        match = re.fullmatch(self.cells["lut"], cell)
        return int(match.groups()[-1]) if match else 0


_XILINX = {
    "lut": r"LUT([1-6])",
    "inverter": r"INV",
    "shift_register": r"SRL16E|SRLC32E|SRLC16E",
    "carry": r"CARRY4|CARRY8",
    "mux": r"MUXF[5-9]",
    "ff": r"FD[RSCP]E(_1)?|LD[CP]E",
    "dsp": r"DSP48E[12]",
    "bram": r"RAMB18E[12]",
    "bram36": r"RAMB36E[12]",
    "lutram": r"RAM\d+[XM].*|ROM\d+X1",
    "other": r"BUFG|GND|VCC",
}
_TARGETS = (
    Target("xc7", "synth_xilinx -family xc7 -flatten -noiopad", _XILINX),
    Target("xcu", "synth_xilinx -family xcu -flatten -noiopad", _XILINX),
    Target("xcup", "synth_xilinx -family xcup -flatten -noiopad", _XILINX),
    Target(
        "ecp5",
        "synth_ecp5 -noiopad",
        {
            "lut": r"LUT([4])",
            "inverter": r"INV",
            "carry": r"CCU2C",
            "mux": r"PFUMX|L6MUX21",
            "ff": r"TRELLIS_FF",
            "dsp": r"MULT18X18D",
            "bram": r"DP16KD|PDPW16KD",
            "lutram": r"TRELLIS_DPR16X4",
            "other": r"GND|VCC|VLO|VHI",
        },
        luts_of_carry=2,  # a CCU2C is a whole slice: both its LUT4
    ),
    Target(
        "ice40",
        "synth_ice40",
        {
            "lut": r"SB_LUT([4])",
            "carry": r"SB_CARRY",  # shares a logic cell with the LUT behind it
            "ff": r"SB_DFF.*",
            "dsp": r"SB_MAC16",
            "bram": r"SB_RAM40_4K.*",
            "other": r"SB_GB",
        },
    ),
    Target(
        "gowin",
        "synth_gowin -noiopads",
        {
            "lut": r"LUT([1-4])",
            "inverter": r"INV",
            "carry": r"ALU",
            "mux": r"MUX2.*",
            "ff": r"DFF.*",
            "dsp": r"MULT.*|ALU54D",
            "bram": r"SDPX?9?B|DPX?9?B|SPX?9?|pROM.*",
            "lutram": r"RAM16S.*",
            "other": r"GND|VCC|GSR",
        },
        luts_of_carry=1,  # an ALU is a LUT4 in another mode
    ),
    Target(
        "cyclonev",
        "synth_intel_alm -family cyclonev -noiopad -noclkbuf",
        {
            "lut": r"MISTRAL_ALUT([2-6])",
            "inverter": r"MISTRAL_NOT",
            "carry": r"MISTRAL_ALUT_ARITH",  # a LUT and a full adder in one cell
            "ff": r"MISTRAL_FF",
            "dsp": r"MISTRAL_MUL\d+X\d+",
            "bram": r"MISTRAL_M10K",
            "lutram": r"MISTRAL_MLAB",
            "other": r"MISTRAL_CLKBUF",
        },
        luts_of_carry=1,
    ),
)


@cache
def targets() -> Mapping[str, Target]:
    """All of them by name."""
    return {target.name: target for target in _TARGETS}


def target_of(name: str) -> Target:
    """The target of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in targets():
        raise ConfigError("Yosys is not asked to synthesise for this family.", expected=", ".join(targets()), received=repr(name))
    return targets()[name]
