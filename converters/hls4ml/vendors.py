"""hls4ml's own back ends, one row each: which compiler they write for, in which dialect of C++, and what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BOTH = ("io_parallel", "io_stream")


@dataclass(frozen=True)
class Vendor:
    """One back end of hls4ml.

    Args:
        name: hls4ml's name of it.
        compiler: Whose compiler takes the project, for people.
        dialect: A key of `dialect.DIALECTS`.
        writer: ``module:class`` of hls4ml's writer.
        flow: hls4ml's name for its passes and templates.
        strategies: The strategies of each io_type; the first is the default. What is not here, hls4ml cannot do.
        parts: Regular expression of the parts that it takes.
        part: hls4ml's own default part: an example.
        folder: Where the C++ lies.
        run: Shell lines that run the compiler; ``@top@`` is the project's name.
        sycl: Whether the C++ is SYCL, for which the C simulation brings headers of ours.
        namespaces: Whether the C++ can be put into a namespace.
        lookups: Whether it has hls4ml's table layer; else a function of ours takes its place.
        quantizers: The same of hls4ml's layer that casts each element by itself.
    """

    name: str
    compiler: str
    dialect: str
    writer: str
    flow: str
    strategies: Mapping[str, tuple[str, ...]]
    parts: str
    part: str
    run: tuple[str, ...]
    folder: str = "firmware"
    sycl: bool = False
    namespaces: bool = False
    lookups: bool = False
    quantizers: bool = False
    libraries: tuple[str, ...] = field(default=())
    """Include folders of the C simulation."""


_AMD = {io: ("latency", "resource", "resource_unrolled", "distributed_arithmetic") for io in BOTH}
_VITIS_HLS = ("vitis-run --mode hls --tcl build_prj.tcl      # 2024.1 and later", "vitis_hls -f build_prj.tcl                    # before")

VENDORS = {
    vendor.name: vendor
    for vendor in (
        Vendor(
            name="Vitis",
            compiler="AMD Vitis HLS",
            dialect="ap",
            writer="hls4ml.writer.vitis_writer:VitisWriter",
            flow="vitis",
            strategies=_AMD,
            parts=r"xc.*",
            part="xcvu13p-flga2577-2-e",
            run=_VITIS_HLS,
            namespaces=True,
            lookups=True,
            quantizers=True,
            libraries=("firmware/ap_types",),
        ),
        Vendor(
            name="Vivado",
            compiler="AMD Vivado HLS (2020.1 and before)",
            dialect="ap",
            writer="hls4ml.writer.vivado_writer:VivadoWriter",
            flow="vivado",
            strategies=_AMD,
            parts=r"xc.*",
            part="xcvu13p-flga2577-2-e",
            run=("vivado_hls -f build_prj.tcl",),
            namespaces=True,
            lookups=True,
            quantizers=True,
            libraries=("firmware/ap_types",),
        ),
        Vendor(
            name="VivadoAccelerator",
            compiler="AMD Vivado HLS (2020.1 and before), with AXI around it and a driver",
            dialect="ap",
            writer="hls4ml.writer.vivado_accelerator_writer:VivadoAcceleratorWriter",
            flow="vivado",
            # the passes that write unrolled code and da4ml's want a back end that is called Vivado or Vitis
            strategies={io: ("latency", "resource") for io in BOTH},
            parts=r"xc.*",
            part="xc7z020clg400-1",
            run=("vivado_hls -f build_prj.tcl", "vivado -mode batch -source design.tcl"),
            lookups=True,
            libraries=("firmware/ap_types",),
        ),
        Vendor(
            name="Quartus",
            compiler="Intel HLS (i++)",
            dialect="quartus",
            writer="hls4ml.writer.quartus_writer:QuartusWriter",
            flow="quartus",
            strategies={io: ("resource",) for io in BOTH},  # hls4ml sets it, whatever it is asked for
            parts=r"(?!xc).*",
            part="Arria10",
            run=("make @top@-fpga",),
            libraries=("firmware/ac_types",),
        ),
        Vendor(
            name="Catapult",
            compiler="Siemens Catapult HLS",
            dialect="catapult",
            writer="hls4ml.writer.catapult_writer:CatapultWriter",
            flow="catapult",
            strategies={io: ("latency", "resource") for io in BOTH},
            parts=r".*",
            part="xcku115-flvb2104-2-i",
            run=("catapult -product ultra -shell -f build_prj.tcl",),
            libraries=("firmware/ac_types/include", "firmware/ac_math/include", "firmware/ac_simutils/include", "firmware/nnet_utils"),
        ),
        Vendor(
            name="oneAPI",
            compiler="Intel oneAPI (icpx)",
            dialect="oneapi",
            writer="hls4ml.writer.oneapi_writer:OneAPIWriter",
            flow="oneapi",
            strategies={io: ("resource",) for io in BOTH},
            parts=r"(?!xc).*",
            part="Agilex7",
            run=("mkdir build && cd build && cmake .. && make fpga_emu",),
            folder="src/firmware",
            sycl=True,
            libraries=("host", "src/firmware", "src/firmware/nnet_utils"),
        ),
    )
}
"""By name. Libero and SymbolicExpression are not here: hls4ml asks for their vendors' programs before it writes anything."""
