"""The command line from outside, as a user and his scripts see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hgq import cli
from hgq.backend import Backend, check_extra
from hgq.cli import _conflict, _output, app
from hgq.errors import MismatchError, ToolNotFound
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from hgq.project import MANIFEST, FirmwareProject

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "jets.toml"
MAIN = [sys.executable, "-c", "from hgq.cli import main; main()"]


def hgq(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh process."""
    environment = {**os.environ, "COLUMNS": "200", **env}
    return subprocess.run([*MAIN, *arguments], capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture
def here(capfd):
    """The same in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.run(list(arguments))
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return call


def save(path: Path, seed: int = 0) -> Path:
    b = GraphBuilder("tiny")
    x = b.input("x", Fixed(1, 2, 3).broadcast_to((4,)), "RND", "WRAP")
    with b.layer("dense"):
        w = b.constant(np.random.default_rng(seed).integers(-8, 8, (4, 3)), Fixed(1, 0, 3).broadcast_to((4, 3)), "kernel")
        y = b.op("matmul", x, w, name="matmul")
    with b.layer("relu"):
        y = b.quantize(b.op("relu", y, name="relu"), Fixed(0, 3, 2).broadcast_to((3,)), "RND", "SAT", "oq")
    return file.save(b.graph(y), path)


@pytest.fixture
def model(tmp_path) -> Path:
    return save(tmp_path / "tiny.hgq")


class Fake(Backend):
    name = "fake"

    def options(self):
        return {"speed": "how fast (default: very)"}

    def emit(self, graph, options):
        check_extra(options, self.options(), self.name)
        return FirmwareProject(
            options.name, {"src/top.v": f"// {graph.name} on {options.part} at {options.clock_ns}\n"}, {"backend": "fake"}
        )


@pytest.fixture
def fake(monkeypatch):
    from hgq import plugins

    real = plugins.backend
    monkeypatch.setattr(plugins, "backend", lambda name: Fake() if name == "fake" else real(name))


# Start-up. ------------------------------------------------------------------------------------------------------------------------------

# CPU time: a wall clock would judge whatever else runs on the machine.
LOADED = """
import sys, time
start = time.process_time()
from hgq.cli import main
sys.argv = ["hgq", *{arguments}]
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
heavy = sorted({{"numpy", "keras", "tensorflow", "pydantic", "alkaid", "hls4ml", "matplotlib"}} & set(sys.modules))
print(" ".join(heavy), time.process_time() - start, file=sys.stderr)
"""


def test_help_loads_nothing_heavy_and_is_fast():
    command = [sys.executable, "-c", LOADED.format(arguments=["--help"])]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    heavy, _, _ = runs[0].stderr.rpartition(" ")
    assert not heavy.strip(), f"`hgq --help` imports {heavy}"
    assert min(float(run.stderr.rpartition(" ")[2]) for run in runs) < 0.5, "imports of a verb belong inside its function"
    assert "export" in runs[0].stdout


@pytest.mark.parametrize("arguments", [["inspect", "MODEL"], ["diff", "MODEL", "MODEL"], ["doctor"], ["estimate", "MODEL"]])
def test_what_reads_a_frozen_model_needs_no_keras(arguments, model):
    arguments = [str(model) if argument == "MODEL" else argument for argument in arguments]
    done = subprocess.run([sys.executable, "-c", LOADED.format(arguments=arguments)], capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow"} & set(done.stderr.splitlines()[-1].split())


def test_every_verb_has_help():
    for verb, (module, _) in app.VERBS.items():
        if app.find_spec(module) is not None:
            assert app.import_module(module).command.__doc__, verb


def test_a_verb_without_a_module_is_not_listed(monkeypatch, here):
    monkeypatch.setitem(app.VERBS, "fly", ("hgq.cli.no_such_verb", app.SYSTEM))
    code, out, _ = here("--help")
    assert code == 0 and "doctor" in out and "fly" not in out


def test_version(here):
    import hgq as package

    assert here("--version") == (0, f"hgq {package.__version__}\n", "")


# Exit codes and errors. -----------------------------------------------------------------------------------------------------------------


def test_usage_errors_exit_2():
    done = hgq("exprt")
    assert done.returncode == 2 and "No such command" in done.stderr and not done.stdout
    assert hgq("export").returncode == 2
    assert hgq("inspect").returncode == 2


def verb(monkeypatch, error: BaseException) -> None:
    """Make `hgq doctor` fail with `error`."""

    def command() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr("hgq.cli.doctor.command", command)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MismatchError("They differ.", where="dense/kernel", expected="[1]", received="2", fix="Look at it."), 1, "They differ."),
        (ToolNotFound("No g++."), 3, "No g++."),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 3, 'pip install "hgqc[train]"'),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("surprise"), app.BUG, "This is a fault of hgqc"),
    ],
)
def test_errors_become_exit_codes(monkeypatch, here, error, code, text):
    verb(monkeypatch, error)
    got, out, err = here("doctor")
    assert (got, out) == (code, "") and text in err


def test_an_error_shows_all_its_pieces_and_no_traceback(monkeypatch, here):
    verb(monkeypatch, MismatchError("They differ.", where="dense/kernel", expected="[1]", received="2", fix="Look [bold]at[/] it."))
    _, _, err = here("doctor")
    assert err.splitlines() == [
        "Error: They differ.",
        "  where:    dense/kernel",
        "  expected: [1]",
        "  received: 2",
        "  fix:      Look [bold]at[/] it.",
    ]


def test_an_error_fits_one_screen(monkeypatch, here):
    verb(monkeypatch, MismatchError("They differ.", received="\n".join(f"line {i}" for i in range(500))))
    _, _, err = here("doctor")
    assert len(err.splitlines()) < 35 and "line 499" in err


def test_debug_shows_the_traceback(monkeypatch, here):
    verb(monkeypatch, MismatchError("They differ."))
    monkeypatch.setenv("HGQ_DEBUG", "1")
    code, _, err = here("doctor")
    assert code == 1 and "Traceback" in err and err.splitlines()[-1] == "Error: They differ."


def test_a_reader_that_goes_away_is_no_error(model):
    command = " ".join(["exec", sys.executable, "-c", "'from hgq.cli import main; main()'", "doctor", "--json"])
    done = subprocess.run(["bash", "-c", f"set -o pipefail; ( {command} ) | true"], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, app.BROKEN_PIPE) and "Traceback" not in done.stderr


def test_main_is_the_entry_point():
    assert callable(cli.main)


# Verbs. ---------------------------------------------------------------------------------------------------------------------------------


def test_doctor_as_json():
    done = hgq("doctor", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == (0 if facts["healthy"] else 2)
    assert {tool["name"] for tool in facts["tools"]} >= {"g++", "make", "verilator", "ghdl", "yosys"}
    assert all(tool["found"] or tool["fix"] for tool in facts["tools"])
    assert {extra["extra"] for extra in facts["extras"]} == {"train", "rtl", "hls4ml", "qonnx", "synth"}
    assert all(extra["complete"] or extra["fix"].startswith("pip install") for extra in facts["extras"])
    assert {"rtl", "hls4ml"} <= set(facts["backends"])
    assert "numpy" in {package["name"] for package in facts["packages"]}


def test_doctor_for_people(here):
    code, out, err = here("doctor")
    assert code == 0 and "verilator" in out and "The installation is sound." in err


def test_doctor_and_the_start_see_a_foreign_hgq(monkeypatch, here):
    monkeypatch.setattr(_conflict, "owners", lambda names=_conflict.FOREIGN: ["hgq2 0.2.0"])
    code, out, err = here("doctor", "--json")
    facts = json.loads(out)
    assert code == 2 and not facts["healthy"]
    assert "pip uninstall -y hgq2 hgqc && pip install hgqc" in facts["problems"][0]
    assert err.startswith("! hgq2 0.2.0 installs an import package called `hgq` too")


def test_a_foreign_distribution_is_recognised(tmp_path, monkeypatch):
    info = tmp_path / "hgq2-0.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hgq2\nVersion: 0.2.0\n")
    (info / "RECORD").write_text("hgq/__init__.py,,\nhgq2-0.2.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert _conflict.owners() == ["hgq2 0.2.0"] and "hgq2 0.2.0" in _conflict.all_owners()
    (info / "RECORD").write_text("HGQ/__init__.py,,\n")
    assert _conflict.owners() == []


def test_inspect(model, here):
    code, out, _ = here("inspect", str(model))
    assert code == 0 and "dense/matmul" in out and "quantize" in out and "x" in out
    code, out, _ = here("inspect", str(model), "--json", "--layer", "dense")
    shown = json.loads(out)
    assert [row["name"] for row in shown["rows"]] == ["dense/matmul"] and shown["digest"] == file.load(model).digest()
    code, out, err = here("inspect", str(model), "--layer", "dens")
    assert (code, out) == (2, "") and "expected: x, dense, relu" in err


def test_inspect_of_something_else(tmp_path, here):
    for content in (b"", b"PK\x03\x04 half a zip"):
        (tmp_path / "m.hgq").write_bytes(content)
        code, out, err = here("inspect", str(tmp_path / "m.hgq"))
        assert (code, out) == (2, "") and "fix:" in err
    code, _, err = here("inspect", str(tmp_path / "nowhere.hgq"))
    assert code == 2 and "no such model file" in err


def test_diff(model, tmp_path, here):
    assert here("diff", str(model), str(model))[:2] == (0, f"equal: {file.load(model).digest()[:16]}\n")
    other = save(tmp_path / "other.hgq", seed=1)
    code, out, _ = here("diff", str(model), str(other))
    assert code == 1 and "kernel" in out
    code, out, _ = here("diff", str(model), str(other), "--json")
    shown = json.loads(out)
    assert code == 1 and not shown["equal"] and shown["differences"]


def test_export_writes_and_lists(fake, model, tmp_path, here):
    out_dir = tmp_path / "out"
    arguments = ["export", str(model), "-b", "fake", "--part", "xc7a35t", "--clock-ns", "4", "--name", "top2", "--out", str(out_dir)]
    code, out, err = here(*arguments, "--archive")
    assert code == 0 and out.splitlines()[:2] == [str(out_dir), f"{out_dir}.zip"] and "src/top.v" in out and "1 files" in err
    assert (out_dir / "src/top.v").read_text() == "// tiny on xc7a35t at 4.0\n" and (out_dir / MANIFEST).is_file()
    with zipfile.ZipFile(f"{out_dir}.zip") as archive:
        assert "top2/src/top.v" in archive.namelist()
    code, out, err = here(*arguments)
    assert (code, out) == (2, "") and "is there already" in err and "--force" in err
    code, out, _ = here(*arguments, "--force", "--json", "-O", "speed=7")
    assert code == 0 and json.loads(out)["files"] == ["src/top.v"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--name", "a;rm -rf ~"], "cannot be used for a project"),
        (["--part", "x y"], "cannot be a part"),
        (["--clock-ns", "0"], "cannot be a clock period"),
        (["--option", "speed"], "has no value"),
        (["--option", "sped=1"], "Did you mean 'speed'?"),
        (["--option", "speed=1", "--option", "speed=2"], "given twice"),
        (["--backend", "vhdl"], "no such backend"),
    ],
)
def test_export_refuses_before_it_writes(fake, model, tmp_path, here, arguments, text):
    code, out, err = here("export", str(model), "--backend", "fake", "--out", str(tmp_path / "out"), *arguments)
    assert (code, out) == (2, "") and text in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.hgq"]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["inspect", "FOLDER"], ["no such model file", "received: a folder"]),
        (["verify", "MODEL", "--data", "FOLDER"], ["no such data file", "received: a folder"]),
        (["verify", "MODEL", "-b", "fake", "--workdir", "FILE"], ["A part of this path is a file", "where:"]),
        (["estimate", "--learn", "FILE"], ["no such folder", "received: a file"]),
        (["estimate", "MODEL", "--latency-ns", "-3"], ["cannot be a latency", "received: -3"]),
        (["estimate", "MODEL", "--synth", "--timeout", "-1"], ["greater than or equal"]),
        (["export", "MODEL", "--board", "pynq_z2"], ["goes around the RTL", "fix:"]),
        (["train", "FOLDER"], ["Cannot read the recipe", "expected: a TOML file"]),
        (["train", "RECIPE", "--out", "FILE"], ["run directory is a file", "where:"]),
        (["train", "RECIPE", "--out", "OTHER", "--data", "FOLDER"], ["no such data set or file", "received: a folder"]),
        (["sweep", "RECIPE", "--seeds", "1,2", "--out", "FILE"], ["sweep directory is a file", "where:"]),
        (["freeze", "MODEL", "--out", "OTHER", "--calibration", "FOLDER"], ["no such data file", "received: a folder"]),
        (["freeze", "FOLDER", "--calibration", "FILE", "--out", "FOLDER", "--force"], ["exists and is not a file", "received: a folder"]),
        (["import", "FILE", "--out", "OTHER"], ["What is written is a Keras model", "fix:"]),
        (["import", "FOLDER", "--out", "MADE"], ["no such model file", "received: a folder"]),
        (["import", "FILE", "--out", "MADE", "-c", "FOLDER"], ["no such data file", "received: a folder"]),
        (["freeze", "FOLDER", "--calibration", "FILE"], ["no such model file", "received: a folder"]),
    ],
)
def test_what_is_no_fit_file_or_number_is_refused_with_the_reason(fake, model, tmp_path, here, arguments, texts):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    names = {"MODEL": str(model), "FOLDER": str(tmp_path / "folder"), "FILE": str(tmp_path / "file"), "OTHER": str(tmp_path / "other.hgq")}
    names |= {"RECIPE": str(RECIPE), "MADE": str(tmp_path / "made.keras")}
    code, out, err = here(*(names.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "") and all(text in err for text in texts) and "Traceback" not in err
    assert "loading Keras" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "tiny.hgq"] and not any((tmp_path / "folder").iterdir())


def test_verify_simulates_the_project_that_export_writes(monkeypatch, model, tmp_path, here):
    import hgq.verify
    from hgq.verify.verdict import Check, Verdict

    part = "xck26-sfvc784-2LV-c"
    pipeline = {"part": part, "stages": 3, "clock_ns": 2.5, "cycles": 4, "ns": 10.0, "wanted_ns": 12.0}
    notes = {"part": part, "clock_ns": 8.0, "pipeline": pipeline}
    trained = file.save(replace(file.load(model), meta=notes), tmp_path / "trained.hgq")
    asked = {}

    def verify(graph, *_, options, **__):
        asked.update({name: (each.part, each.clock_ns, dict(each.extra)) for name, each in options.items()})
        return Verdict(graph.digest(), 0, 1, tuple(Check(name, name, 1, 0, 0.0) for name in options))

    monkeypatch.setattr(hgq.verify, "verify", verify)
    assert here("verify", str(trained))[0] == 0
    assert asked == {"rtl": (part, 2.5, {"stages": "3"}), "hls4ml": (part, 8.0, {})}
    assert here("verify", str(trained), "-b", "rtl", "--clock-ns", "4")[0] == 0
    assert asked["rtl"] == (part, 4.0, {})
    assert here("verify", str(model))[0] == 0
    assert asked["rtl"] == asked["hls4ml"] == ("xcvu13p-flga2577-2-e", 5.0, {})


def test_export_lists_the_options_of_a_backend(fake, here):
    code, out, _ = here("export", "--backend", "fake", "--list-options")
    assert code == 0 and "speed" in out and "how fast" in out


def test_freeze_knows_inputs_that_no_data_reach():
    from hgq.cli.freeze import unused

    b = GraphBuilder("half")
    x, y = (b.input(name, Fixed(1, 2, 3 if name == "x" else -3).broadcast_to((4,)), "RND", "WRAP") for name in "xy")
    assert unused(b.graph(b.op("concatenate", x, y, axis=0))) == ["y"]


def test_freeze_refuses_an_existing_file_before_it_loads_keras(model, tmp_path, here):
    code, out, err = here("freeze", str(tmp_path / "m.keras"), "--calibration", str(tmp_path / "x.npz"), "--out", str(model))
    assert (code, out) == (2, "") and "file is there already" in err and "Loading Keras" not in err


# Output. --------------------------------------------------------------------------------------------------------------------------------


def test_json_understands_numpy_and_has_no_nan(capfd):
    _output.json_result({"a": np.int64(3), "b": np.array([1.5, np.nan]), "c": Path("x"), "d": {1, 2}, "e": Fixed})
    assert json.loads(capfd.readouterr().out) == {"a": 3, "b": [1.5, None], "c": "x", "d": [1, 2], "e": str(Fixed)}


def test_a_table_in_a_pipe_is_not_cut(capfd):
    _output.table([{"name": "x" * 300, "value": 12345.678, "flag": True, "shape": [3, 4], "none": None}])
    out = capfd.readouterr().out
    assert "x" * 300 in out and "12,346" in out and "3×4" in out and "–" in out
    assert all(line == line.rstrip() for line in out.splitlines())
