"""The dialects of C++ that HLS compilers want: how numbers, streams and pragmas are spelled, and the frames of our own functions.

A function of ours is made of expressions in ``inp``, which are C++ in every dialect; see `generated`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NAME = "@name@"
"""Stands for the name of the layer in a function's text."""


@dataclass(frozen=True)
class Dialect:
    """How one family of compilers spells things.

    Args:
        library: ``ap`` (AMD) or ``ac`` (Algorithmic C): whose fixed-point types.
        stream: Type of a stream of T, with ``@`` for T; empty where streams are types themselves, SYCL's pipes.
        arrays_by_reference: Whether parallel tensors are arrays (or array objects) to be taken by reference instead of pointers.
        inline, pipeline, unroll: Pragmas; empty for none.
        partition: Pragma for a local array ``@``.
        pack: Line after the declaration of a packet ``@``.
    """

    library: str
    stream: str
    arrays_by_reference: bool
    inline: str = ""
    pipeline: str = ""
    unroll: str = ""
    partition: str = ""
    pack: str = ""

    @property
    def overflows(self) -> tuple[str, ...]:
        """The modes of overflow that the types know, beside saturation and wrapping."""
        return ("WRAP", "SAT", "SAT_SYM", "WRAP_SM") if self.library == "ap" else ("WRAP", "SAT", "SAT_SYM")

    def type(self, precision: str) -> str:
        """The C++ type of ``fixed<8,3>`` or ``ufixed<8,3>``."""
        if self.library == "ap":
            return f"ap_{precision}"
        kind, _, sizes = precision.rstrip(">").partition("<")
        return f"ac_fixed<{sizes},{'true' if kind == 'fixed' else 'false'}>"

    def cast(self, sign: int, integer: int, width: int, rounding: str, overflow: str, value: str) -> str:
        """An expression that casts `value`; `integer` counts the sign."""
        if self.library == "ap":
            return f"ap_{'' if sign else 'u'}fixed<{width}, {integer}, AP_{rounding}, AP_{overflow}>({value})"
        return f"ac_fixed<{width}, {integer}, {'true' if sign else 'false'}, AC_{rounding}, AC_{overflow}>({value})"

    def parallel(self, expressions: Iterable[str], constants: str = "") -> str:
        """The text of a function on arrays: one expression in ``inp`` for each element of ``out``."""
        body = "\n".join(f"    out[{j}] = {expression};" for j, expression in enumerate(expressions))
        if self.arrays_by_reference:
            head = (
                f"template <class input_t, class output_t, class inputs_t, class outputs_t> void {NAME}(inputs_t &inp, outputs_t &out) {{"
            )
        else:
            head = f"template <class input_t, class output_t> void {NAME}(input_t *inp, output_t *out) {{"
        return f"\n{head}\n{self._line(self.inline)}{constants}{body}\n}}\n"

    def each_packet(self, expressions: Sequence[str], packets: int, constants: str = "") -> str:
        """The text of a function on a stream: one expression in ``inp``, a packet, for each element of the packet ``out``."""
        body = "\n".join(f"        out[{j}] = {expression};" for j, expression in enumerate(expressions))
        return f"""
{self._stream_head()}
{constants}\
    for (int i = 0; i < {packets}; i++) {{
{self._line(self.pipeline, 2)}\
        input_t inp = {self._read};
        output_t out;
{self._line(self.pack.replace("@", "out"), 2)}{body}
        {self._write("out")};
    }}
}}
"""

    def gathered(self, expressions: Sequence[str], inputs: int, constants: str = "") -> str:
        """The text of a function on a stream that reads all of its operand before it writes: one expression in ``inp`` for each element."""
        body = "\n".join(f"    out[{j}] = {expression};" for j, expression in enumerate(expressions))
        return f"""
{self._stream_head()}
{constants}\
    typename input_t::value_type inp[{inputs}];
    typename output_t::value_type out[{len(expressions)}];
{self._line(self.partition.replace("@", "inp"))}{self._line(self.partition.replace("@", "out"))}\
    for (int i = 0; i < {inputs} / {self._size("input_t")}; i++) {{
{self._line(self.pipeline, 2)}        input_t packet = {self._read};
{self._line(self.unroll if self._ahead else "", 2)}        for (int j = 0; j < {self._size("input_t")}; j++) {{
{self._line("" if self._ahead else self.unroll, 3)}            inp[i * {self._size("input_t")} + j] = packet[j];
        }}
    }}
{body}
{self._written("out", len(expressions))}}}
"""

    def folded(self, expression: str, packets: int, elements: int, value_type: str) -> str:
        """The text of a function on a stream that combines all packets, element by element, into one.

        Args:
            expression: Of ``acc[j]``, what came so far, and ``packet[j]``.
            packets: How many there are.
            elements: Elements of one.
            value_type: ``input_t`` or ``output_t``: whose elements hold what came so far.
        """
        return f"""
{self._stream_head()}
    typename {value_type}::value_type acc[{elements}];
{self._line(self.partition.replace("@", "acc"))}    for (int i = 0; i < {packets}; i++) {{
{self._line(self.pipeline, 2)}        input_t packet = {self._read};
{self._line(self.unroll if self._ahead else "", 2)}        for (int j = 0; j < {elements}; j++) {{
{self._line("" if self._ahead else self.unroll, 3)}            if (i == 0)
                acc[j] = packet[j];
            else
                acc[j] = {expression};
        }}
    }}
{self._written("acc", elements)}}}
"""

    @property
    def _ahead(self) -> bool:
        """AMD's pragmas stand inside of a loop, the others' ahead of it."""
        return self.library != "ap"

    def _line(self, text: str, depth: int = 1) -> str:
        return f"{'    ' * depth}{text}\n" if text else ""

    @property
    def _read(self) -> str:
        return "data.read()" if self.stream else "data_pipe::read()"

    def _write(self, packet: str) -> str:
        return f"res.write({packet})" if self.stream else f"res_pipe::write({packet})"

    def _size(self, kind: str) -> str:
        return f"{kind}::size" if self.stream else f"std::tuple_size<{kind}>::value"

    def _stream_head(self) -> str:
        if not self.stream:
            kinds = "".join(
                f"\n    using {kind} = typename ExtractPipeType<{pipe}>::value_type;"
                for kind, pipe in (("input_t", "data_pipe"), ("output_t", "res_pipe"))
            )
            return f"template <class data_pipe, class res_pipe> void {NAME}() {{{kinds}"
        inputs, outputs = (self.stream.replace("@", kind) for kind in ("input_t", "output_t"))
        return f"template <class input_t, class output_t> void {NAME}({inputs} &data, {outputs} &res) {{"

    def _written(self, array: str, elements: int) -> str:
        return f"""    for (int i = 0; i < {elements} / {self._size("output_t")}; i++) {{
{self._line(self.pipeline, 2)}        output_t packet;
{self._line(self.pack.replace("@", "packet"), 2)}\
{self._line(self.unroll if self._ahead else "", 2)}        for (int j = 0; j < {self._size("output_t")}; j++) {{
{self._line("" if self._ahead else self.unroll, 3)}            packet[j] = {array}[i * {self._size("output_t")} + j];
        }}
        {self._write("packet")};
    }}
"""


DIALECTS = {
    "ap": Dialect(
        "ap",
        stream="hls::stream<@>",
        arrays_by_reference=False,
        inline="#pragma HLS INLINE",
        pipeline="#pragma HLS PIPELINE",
        unroll="#pragma HLS UNROLL",
        partition="#pragma HLS ARRAY_PARTITION variable=@ complete",
        pack="PRAGMA_DATA_PACK(@)",
    ),
    "quartus": Dialect("ac", stream="stream<@>", arrays_by_reference=True, unroll="#pragma unroll"),
    "catapult": Dialect("ac", stream="ac_channel<@>", arrays_by_reference=True, unroll="#pragma hls_unroll"),
    "oneapi": Dialect("ac", stream="", arrays_by_reference=True, unroll="#pragma unroll"),
}
