"""Compiling, keeping and doing without native ops."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from hgq import gradients, native, tools
from hgq.cli.doctor import collect
from hgq.errors import OutputError, ToolFailed, ToolNotFound
from hgq.native import build, library


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has loaded nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library._loaded.cache_clear()
    yield tmp_path
    library._loaded.cache_clear()


def compiler(folder, script):
    """A g++ that is this shell script, first on the PATH; after what it does it answers for its version."""
    path = folder / "bin" / "g++"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "g++ 99.1" && exit 0\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{path.parent}:{os.environ['PATH']}"


TO_ITS_OUTPUT = 'while [ "$1" != -o ]; do shift; done; '


def test_it_is_compiled_once_and_kept(fresh, monkeypatch):
    monkeypatch.setenv("PATH", compiler(fresh, TO_ITS_OUTPUT + f'echo x >> {fresh}/runs; echo made > "$2"'))
    assert not build.state().path or build.state().text == "will be compiled on first use"
    path = build.library()
    assert path.read_text() == "made\n" and path.parent == fresh / "cache" / "hgqc" / "native"
    assert build.library() == path and (fresh / "runs").read_text() == "x\n"
    assert build.state() == build.State(True, "built", str(path))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_flags_compiler_and_sources_have_libraries_of_their_own(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", compiler(fresh, TO_ITS_OUTPUT + 'echo made > "$2"'))
    names = {build.library(), build.library((*build.FLAGS, "-DHGQC_PORTABLE"))}
    copy = tmp_path / "src"
    copy.mkdir()
    for source in build.SOURCES.iterdir():
        (copy / source.name).write_bytes(source.read_bytes() + b"\n// changed\n")
    monkeypatch.setattr(build, "SOURCES", copy)
    names.add(build.library())
    monkeypatch.setattr(build, "_cpu", lambda: "another")
    names.add(build.library())
    assert len(names) == 4


def test_what_fails_leaves_nothing_and_says_why_once(fresh, monkeypatch, caplog):
    monkeypatch.setenv("PATH", compiler(fresh, "echo 'ops.cc:1: no such thing' >&2; exit 1"))
    with pytest.raises(ToolFailed, match="no such thing"):
        build.library()
    assert not list((fresh / "cache" / "hgqc" / "native").iterdir())
    g, seed = tf.constant(np.random.default_rng(1).normal(size=(9, 9)), tf.float32), tf.constant([1, 2])
    with caplog.at_level(logging.WARNING, "hgq.native"):
        for _ in range(3):
            gradients.get("luq4").quantize(g, seed)
    *attempts, notice = caplog.messages  # one by library() above, one by whoever wanted an op first
    assert len(attempts) == 2 and all("once, up to a minute" in attempt for attempt in attempts)
    assert "no such thing" in notice and "same results" in notice and "HGQ_NATIVE=0" in notice


def test_a_library_that_does_not_load_is_done_without(fresh, monkeypatch, caplog):
    monkeypatch.setenv("PATH", compiler(fresh, TO_ITS_OUTPUT + 'echo no library > "$2"'))
    with caplog.at_level(logging.WARNING, "hgq.native"):
        assert native.ops_for(tf.zeros(())) is None
    assert ["not available" in message for message in caplog.messages] == [False, True]


def test_no_compiler(fresh, monkeypatch, caplog):
    monkeypatch.setattr(tools, "find", lambda name: None)
    assert not build.state().usable and "apt install g++" in build.state().text
    with pytest.raises(ToolNotFound):
        build.library()
    assert native.instructions() is None
    (notice,) = caplog.messages
    assert "apt install g++" in notice


def test_a_cache_that_cannot_be_written(fresh, monkeypatch):
    (fresh / "cache").write_text("a file")
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        build.library()


def test_too_slow_a_compiler_is_stopped(fresh, monkeypatch):
    monkeypatch.setenv("PATH", compiler(fresh, "sleep 60"))
    monkeypatch.setattr(build, "TIME_LIMIT_S", 0.5)
    with pytest.raises(ToolFailed, match=r"stopped after 0\.5 s"):
        build.library()
    assert not list((fresh / "cache" / "hgqc" / "native").iterdir())


@pytest.mark.parametrize("value", ["0", "off", "No"])
def test_the_switch(monkeypatch, value):
    monkeypatch.setenv("HGQ_NATIVE", value)
    assert native.ops_for(tf.zeros(())) is None and native.instructions() is None
    assert build.state() == build.State(False, f"switched off by HGQ_NATIVE={value}")
    assert collect()["native"] == build.state()


def test_other_types_get_the_reference():
    assert native.ops_for(tf.zeros((), tf.float16)) is None


def test_doctor_needs_no_tensorflow():
    code = "import sys; from hgq.cli.doctor import collect; print(collect()['native'].text); print('tensorflow' in sys.modules)"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] and lines[1] == "False"


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-march=x86-64 -mtune=generic", "-march=native -DHGQC_PORTABLE"])
def test_products_without_the_processors_instructions(flags, fresh):
    """A library for another processor, beside the one that is loaded: in a process of its own, since ops can be registered once."""
    kept = [flag for flag in build.FLAGS if not flag.startswith("-march")]
    code = (
        "import numpy as np\nfrom hgq.native import build, library\n"
        f"ops, name = library.load(build.library({(*kept, *flags.split())!r}))\nprint(name)\nrng = np.random.default_rng(1)\n"
        "for m, n, k in ((70, 33, 2100), (6, 16, 8), (1, 1, 1), (49, 5, 17)):\n"
        "    g, w, x = (rng.integers(-h, h + 1, s).astype(np.int8) for h, s in ((64, (m, k)), (127, (n, k)), (127, (m, n))))\n"
        "    assert (ops.hgqc_data_product(g, w, 1.0).numpy() == (g.astype(int) @ w.T.astype(int)).astype(np.float32)).all()\n"
        "    assert (ops.hgqc_kernel_product(x, g, 1.0).numpy() == (x.T.astype(int) @ g.astype(int)).astype(np.float32)).all()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HGQ_NATIVE": "0"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "portable C++"
