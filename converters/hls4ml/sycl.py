"""What hls4ml's oneAPI projects use of Intel's SYCL, for g++ on one thread: a pipe is a queue, a task runs when it is started.

Only Intel's compiler has the real headers; these have their names and stand for them in the C simulation, and in nothing else. The layers'
own C++ is compiled as hls4ml wrote it. Numbers are the open Algorithmic C types, which Intel's are made from.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

FOLDER = "host"
"""Where the headers lie, beside the project's own folders."""

_SYCL = """#pragma once
// Stands for Intel's header in hgqc's C simulation: one thread, pipes without an end.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <type_traits>
#include <utility>

#define SYCL_EXTERNAL

namespace hgq {
inline std::size_t waiting = 0;  // packets in all pipes
}

namespace sycl {
struct queue {};

namespace ext::oneapi::experimental {
struct properties_tag {};
template <class... kinds> struct properties {
    constexpr properties(kinds...) {}
};
template <class... values> int printf(const char *format, values... given) { return std::printf(format, given...); }
}  // namespace ext::oneapi::experimental

namespace ext::intel::experimental {
template <int cycles> struct ready_latency_key {};
template <int cycles> inline constexpr ready_latency_key<cycles> ready_latency{};
struct interface_key {};
template <int... options> inline constexpr interface_key streaming_interface{};
template <int... options> inline constexpr interface_key pipelined{};

template <class name, class data_t, std::int32_t capacity = 0, class settings = oneapi::experimental::properties<>, class... more>
class pipe {
    static inline std::deque<data_t> packets;

  public:
    static void write(const data_t &packet) {
        packets.push_back(packet);
        ++hgq::waiting;
    }
    static data_t read() {
        if (packets.empty()) {
            std::fprintf(stderr, "a pipe is read before it is written: hardware would wait for ever\\n");
            std::exit(6);
        }
        data_t packet = packets.front();
        packets.pop_front();
        --hgq::waiting;
        return packet;
    }
    static void write(queue &, const data_t &packet) { write(packet); }
    static data_t read(queue &) { return read(); }
    static bool empty() { return packets.empty(); }
};

template <auto &task, class... settings> struct task_sequence {
    template <class... values> void async(values &&...given) { task(std::forward<values>(given)...); }
};
}  // namespace ext::intel::experimental
}  // namespace sycl
"""

_HEADERS = {
    "sycl/sycl.hpp": _SYCL,
    "sycl/ext/intel/fpga_extensions.hpp": "#pragma once\n#include <sycl/sycl.hpp>\n",
    "sycl/ext/intel/experimental/task_sequence.hpp": "#pragma once\n#include <sycl/sycl.hpp>\n",
    "sycl/ext/intel/ac_types/ac_int.hpp": '#pragma once\n#include "ac_int.h"\n',
    "sycl/ext/intel/ac_types/ac_fixed.hpp": '#pragma once\n#include "ac_fixed.h"\n',
    "sycl/ext/intel/ac_types/ac_fixed_math.hpp": "#pragma once\n#include <cmath>\n#include <sycl/ext/intel/ac_types/ac_fixed.hpp>\n",
}

_CONSTANTS = re.compile(r"\bconstexpr (?=\w+_t [a-z]+\d+ = \{|auto padds = )")
"""Arrays of numbers: Intel's can be made by the compiler, the open ones when the program starts."""

TEXT = "".join(f"{path}\n{text}" for path, text in _HEADERS.items()) + _CONSTANTS.pattern
"""All that a compiled simulation depends on here."""


def prepare(project: Path, firmware: str) -> None:
    """Put the headers beside a written project, and take ``constexpr`` from its arrays of numbers."""
    host = project / FOLDER
    for path, text in _HEADERS.items():
        (host / path).parent.mkdir(parents=True, exist_ok=True)
        (host / path).write_text(text)
    spec = find_spec("hls4ml")
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in ("ac_int.h", "ac_fixed.h"):
            shutil.copy(Path(folder) / "templates" / "catapult" / "ac_types" / "include" / name, host / name)
    for header in (project / firmware).rglob("*.h"):
        text = header.read_text()
        if _CONSTANTS.search(text):
            header.write_text(_CONSTANTS.sub("const ", text))
