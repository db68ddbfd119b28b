"""Hands the layers to hls4ml, checks that it kept every type, and collects the project that it writes."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hgq.backend import Options
from hgq.errors import LoweringError, ToolNotFound
from hgq.project import FirmwareProject

from . import generated
from .document import ports_json, readme
from .lower import PRODUCTS, Program
from .rules.dense import FLOAT32_BITS
from .settings import Settings
from .vendors import VENDORS, Vendor

log = logging.getLogger("hgq.converters.hls4ml")

UNSET = "fixed<-1,0>"
"""The default precision: no compiler takes it, so a type that nobody stated cannot slip through."""

CLOCK_UNCERTAINTY = "27%"
"""Vitis HLS's own default, which hls4ml uses too."""


UNUSED = {"pdfdocs", "tests", "gdb", "lutgen"}
"""Folders of the Algorithmic C libraries that no compiler reads: manuals and tests, 4 MB."""


def write(program: Program, options: Options, settings: Settings) -> FirmwareProject:
    """The project that hls4ml writes for these layers, without times, stamps and absolute paths.

    Raises:
        ToolNotFound: hls4ml or da4ml is not installed.
        LoweringError: hls4ml refused a layer, or changed a type.
    """
    require("hls4ml")
    if settings.distributed:
        require("da4ml")
    with tempfile.TemporaryDirectory(prefix="hgq-hls4ml-") as folder, quiet():
        target = Path(folder) / "project"
        model = build(program, options, settings, target)
        _write(model, target, settings.vendor)
        files = {
            str(file.relative_to(target).as_posix()): _content(file, target)
            for file in sorted(target.rglob("*"))
            if file.is_file() and not UNUSED & set(file.relative_to(target).parts)
        }
    argument = {layer: model.graph[layer].get_output_variable().name for layer in (*program.inputs.values(), *program.outputs.values())}
    files["ports.json"] = ports_json(program, argument, settings.dialect)
    files["README.md"] = readme(program, argument, options, settings, _chosen(model, program))
    meta = {
        "backend": "hls4ml",
        "part": options.part,
        "clock_ns": options.clock_ns,
        "graph": program.graph.digest(),
        "options": {key: [list(pair) for pair in value] if isinstance(value, tuple) else value for key, value in vars(settings).items()},
        "hls4ml": version("hls4ml"),
    }
    return FirmwareProject(options.name, files, meta)


def require(package: str) -> None:
    """Raise `ToolNotFound` unless this optional package is installed."""
    try:
        found = find_spec(package) is not None and version(package)
    except PackageNotFoundError:
        found = False
    if not found:
        raise ToolNotFound(f"The Python package {package!r} is not installed.", fix='pip install "hgqc[hls4ml]"')


@contextmanager
def quiet() -> Iterator[None]:
    """What hls4ml prints and warns about goes to our log: stdout belongs to the result."""
    text = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(text), redirect_stderr(text):
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for line in [*text.getvalue().splitlines(), *(str(warning.message) for warning in caught)]:
                if line.strip():
                    log.debug("hls4ml: %s", line)


def build(program: Program, options: Options, settings: Settings, target: Path) -> Any:
    """The ``hls4ml.model.ModelGraph``, all of its passes done.

    Raises:
        LoweringError: a pass failed, or changed a layer or type.
    """
    model = _graph(program, options, settings, target)
    # hls4ml calls a function that it does not write where the nearest reuse factor that it can unroll is 1
    nodes = [model.graph[layer["name"]] for layer in program.layers if layer["name"] in model.graph]
    unshared = [node.name for node in nodes if node.get_attr("strategy") == "resource_unrolled" and int(node.get_attr("reuse_factor")) == 1]
    if unshared:
        model = _graph(program, options, settings, target, frozenset(unshared))
    _check_types(model, program, settings)
    return model


def _graph(program: Program, options: Options, settings: Settings, target: Path, unshared: frozenset[str] = frozenset()) -> Any:
    """The same, unchecked; `unshared` are the layers that take the strategy resource instead of resource_unrolled."""
    from hls4ml.model.graph import ModelGraph
    from hls4ml.utils.config import create_config

    generated.register(_flow_of(settings.vendor))
    config = create_config(
        backend=settings.backend,
        output_dir=str(target),
        project_name=options.name,
        part=options.part,
        clock_period=options.clock_ns,
        io_type=settings.io_type,
        **_own_config(program, settings),
    )
    config["Stamp"] = "hgq"
    config["HLSConfig"] = {
        "Model": {
            "Precision": {"default": UNSET},
            "ReuseFactor": settings.reuse_factor,
            "Strategy": settings.vendor.strategies[settings.io_type][0],
            "BitExact": False,  # the types stated below are exact already
        },
        "LayerName": {
            layer["name"]: {"Precision": dict(program.types[layer["name"]])} | _sharing(layer, program, settings, unshared)
            for layer in program.layers
        },
    }
    layers = [{**layer, "input_shape": layer.get("input_shape", [])} for layer in program.layers]
    try:
        return ModelGraph.from_layer_list(config, layers, list(program.inputs.values()), list(program.outputs.values()))
    except Exception as error:
        raise LoweringError(
            "hls4ml could not take this model.",
            where=f"graph {program.graph.name}",
            received=f"{type(error).__name__}: {error}",
            fix="Export with --backend rtl, or report this with the .hgq file: a clean refusal should have come first.",
        ) from error


def _flow_of(vendor: Vendor) -> str:
    """The back end whose passes and templates this one takes."""
    return next(name for name in VENDORS if name.lower() == vendor.flow)


def _own_config(program: Program, settings: Settings) -> dict[str, Any]:
    """What only some back ends' configurations have."""
    if settings.vendor.namespaces:
        # g++ needs minutes for large constant arrays; it reads text files of weights instead, HLS the headers
        more = {"namespace": settings.namespace, "write_weights_txt": True, "write_tar": False}
        return {"clock_uncertainty": CLOCK_UNCERTAINTY, **more}
    if settings.board:
        formats = [*(port.format for port in program.graph.inputs), *(program.graph.formats()[name] for name in program.graph.outputs)]
        number = "float" if max(int(fixed.width.max(initial=0)) for fixed in formats) <= FLOAT32_BITS else "double"
        return {"board": settings.board, "input_type": number, "output_type": number}
    return {}


def _sharing(layer: dict[str, Any], program: Program, settings: Settings, unshared: frozenset[str]) -> dict[str, Any]:
    """How a layer shares multipliers; layers without products refuse to be told."""
    if layer["class_name"] not in PRODUCTS:
        return {}
    source = program.sources[layer["name"]]
    return {"Strategy": "resource" if layer["name"] in unshared else settings.strategy_of(source), "ReuseFactor": settings.reuse_of(source)}


def _chosen(model: Any, program: Program) -> list[tuple[str, str, str, int]]:
    """Name, path, strategy and reuse factor of the layers with products, as hls4ml took them: it knows only some factors."""
    rows = []
    for layer in program.layers:
        node = model.graph.get(layer["name"])
        if node is not None and layer["class_name"] in PRODUCTS:
            rows.append((node.name, program.sources[node.name], node.get_attr("strategy", "latency"), int(node.get_attr("reuse_factor"))))
    return rows


def _check_types(model: Any, program: Program, settings: Settings) -> None:
    """A pass of hls4ml that changes a type or drops a layer would make the firmware differ silently."""
    convert = model.config.backend.convert_precision_string
    fused = settings.distributed  # quantizers go into da4ml's kernels, weights vanish into them
    for layer in program.layers:
        name = layer["name"]
        node = model.graph.get(name)
        if node is None:
            if fused and layer["class_name"] == "FixedPointQuantizer":
                continue
            raise _changed(name, program, "the layer", "missing")
        kept = {"result": node.get_output_variable().type.precision}
        kept |= {key[:-2]: value.precision for key, value in node.attributes.items() if key.endswith("_t") and hasattr(value, "precision")}
        if layer["class_name"] == "Reshape":
            continue  # it is the array before it, type and all
        for attribute, wanted in program.types[name].items():
            if attribute in kept and not _as_told(attribute, kept[attribute], convert(wanted)):
                raise _changed(name, program, f"{attribute} {wanted}", str(kept[attribute]))
            if attribute not in kept and not fused:
                raise _changed(name, program, f"{attribute} {wanted}", "nothing")


def _as_told(attribute: str, kept: Any, wanted: Any) -> bool:
    """The type itself; an accumulator may hold more, as Catapult's of poolings do: no sum that fits comes out otherwise."""
    if kept == wanted or attribute != "accum":
        return kept == wanted
    fraction = [kind.width - kind.integer for kind in (kept, wanted)]
    room = [kind.integer - int(kind.signed) for kind in (kept, wanted)]
    return kept.signed >= wanted.signed and fraction[0] >= fraction[1] and room[0] >= room[1]


def _changed(name: str, program: Program, expected: str, received: str) -> LoweringError:
    return LoweringError(
        "hls4ml changed what it was told; the firmware would not be exact.",
        where=f"hls4ml layer {name}, layer {program.sources[name] or '?'}",
        expected=expected,
        received=received,
        fix="Install the hls4ml that hgqc is tested with (pip install 'hgqc[hls4ml]'), or report this with the .hgq file.",
    )


def _write(model: Any, target: Path, vendor: Vendor) -> None:
    module, _, name = vendor.writer.partition(":")
    base: Any = getattr(import_module(module), name)

    class Writer(base):
        """hls4ml's own imports Keras to write the configuration, names the folder it writes to, and packs it with the time."""

        def write_yml(self, model: Any) -> None:
            import yaml

            config = {**model.config.config, "OutputDir": "."}  # hls4ml's own commands run in the project: hls4ml build -p .
            (target / "hls4ml_config.yml").write_text(yaml.safe_dump(_plain(config), sort_keys=True))

        def write_tar(self, model: Any) -> None:
            pass

        def write_new_tar(self, model: Any) -> None:
            pass

    Writer().write_hls(model)
    if vendor.name in generated.NO_CODE_FILE:
        functions = "".join(str(code) for layer in model.get_layers() for code in layer.code.values())
        head = '#ifndef HGQ_FUNCTIONS_H_\n#define HGQ_FUNCTIONS_H_\n\n#include "nnet_common.h"\n\nnamespace nnet {\n'
        text = f"{head}{functions}\n}}\n\n#endif\n"
        (target / vendor.folder / generated.HEADER).write_text(text)


def _plain(value: Any) -> Any:
    """JSON-like values only: no tuples, no NumPy scalars."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def _content(file: Path, target: Path) -> str | bytes:
    """What a file holds; paths into the folder that hls4ml wrote to become relative to it."""
    data = file.read_bytes()
    try:
        return data.decode().replace(f"{target}/", "")
    except UnicodeDecodeError:
        return data
