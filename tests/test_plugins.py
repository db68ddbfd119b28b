from __future__ import annotations

import sys
from importlib import metadata

import pytest

from hgq import plugins
from hgq.backend import Backend, Options, check_extra
from hgq.errors import ConfigError, LoweringError, ToolNotFound
from hgq.project import FirmwareProject


class Echo(Backend):
    name = "echo"

    def options(self):
        return {"loud": "shout (default: no)"}

    def emit(self, graph, options):
        check_extra(options, self.options(), self.name)
        return FirmwareProject(options.name, {"graph.txt": str(graph)})


class NeedsMore(Backend):
    def __init__(self, more):
        raise NotImplementedError


def needs_alkaid():
    raise ModuleNotFoundError("No module named 'alkaid'", name="alkaid")


@pytest.fixture
def declare(monkeypatch):
    """Declare entry points besides the installed ones."""
    real = metadata.entry_points

    def declares(**targets: str):
        points = [metadata.EntryPoint(name, target, plugins.GROUP) for name, target in targets.items()]
        monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [*real(group=group), *points])

    return declares


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """This file under a name that an entry point can import."""
    monkeypatch.setitem(sys.modules, "hgq_test_plugins", sys.modules[__name__])


def test_the_built_in_backends_are_declared():
    assert {"rtl", "hls4ml"} <= set(plugins.names())


def test_an_uninstalled_checkout_declares_them_too(monkeypatch):
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [])
    assert {"rtl", "hls4ml"} <= set(plugins.names())


def test_a_third_party_backend(declare):
    declare(echo="hgq_test_plugins:Echo")
    echo = plugins.backend("echo")
    assert echo is plugins.backends()["echo"]
    assert echo.emit("G", Options(name="p")).files == {"graph.txt": "G"}  # type: ignore[arg-type]
    assert echo.check_tools() == []
    with pytest.raises(LoweringError, match="'echo' cannot simulate"):
        echo.simulate(None, Options(), None, ".")  # type: ignore[arg-type]
    with pytest.raises(LoweringError, match="'echo' has no resource estimate"):
        echo.resources(None, Options())  # type: ignore[arg-type]


def test_an_unknown_backend_lists_the_known():
    with pytest.raises(
        ConfigError, match=r"There is no such backend\.\n  Where: backend\n  Expected: .*hls4ml.*rtl.*\n  Received: 'hls4mi'"
    ) as caught:
        plugins.backend("hls4mi")
    assert caught.value.fix == "Did you mean 'hls4ml'?"


@pytest.mark.parametrize("target", ["hgq_test_plugins:Absent", "hgq_test_plugins:NeedsMore", "no_such_module_at_all:X"])
def test_a_broken_backend_is_named_and_left_out(declare, target):
    declare(broken=target)
    with pytest.raises(ConfigError, match=r"The backend 'broken' cannot be loaded") as caught:
        plugins.backend("broken")
    assert caught.value.where == target
    assert "broken" not in plugins.backends()


def test_a_backend_whose_package_is_absent_says_which_extra(declare):
    declare(lean="hgq_test_plugins:needs_alkaid")
    with pytest.raises(ToolNotFound, match="needs the Python package 'alkaid'") as caught:
        plugins.backend("lean")
    assert caught.value.fix == 'pip install "hgqc[rtl]"'


def test_two_backends_of_one_name(declare):
    declare(rtl="hgq_test_plugins:Echo")
    with pytest.raises(ConfigError, match="Two installed packages declare a backend 'rtl'"):
        plugins.backend("rtl")


def test_options_are_checked():
    assert Options().extra == {}
    for bad in ("", "part; exec ls", "$x", "a b", "[x]"):
        with pytest.raises(ConfigError, match="cannot be a part"):
            Options(part=bad)
    for clock in (0, -1, float("nan"), float("inf"), True):
        with pytest.raises(ConfigError, match="cannot be a clock period"):
            Options(clock_ns=clock)
    with pytest.raises(ConfigError, match="cannot be used for a project"):
        Options(name="a;b")


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match=r"The backend 'echo' has no such option\.\n  Where: --option lod=1\n  Expected: loud") as caught:
        check_extra(Options(extra={"lod": "1"}), Echo().options(), "echo")
    assert caught.value.fix == "Did you mean 'loud'?"
