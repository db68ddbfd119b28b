"""The wheel: built, installed elsewhere, and used from another directory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env={**os.environ, **env}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that no build folder is left in the checkout and stale ones do not get in."""
    copy = tmp_path_factory.mktemp("copy") / "hgqc"
    files = [line for line in run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines() if line]
    for name in files:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, "."]
    run(*pip, cwd=copy)
    (found,) = out.glob("hgqc-*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=target)
    return target


def test_the_wheel_holds_everything_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"hgq", next(top for top in tops if top.endswith(".dist-info"))}
    expected = {"hgq/__init__.py", "hgq/py.typed", "hgq/converters/__init__.py", "hgq/firmware_templates/__init__.py"}
    assert expected <= set(names)
    for folder, target in (("hgq", "hgq"), ("converters", "hgq/converters"), ("firmware_templates", "hgq/firmware_templates")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix[1:] in "py npz toml j2 html css js cc h cpp sv v tcl".split():
                assert f"{target}/{path.relative_to(ROOT / folder).as_posix()}" in names, f"{path} is not in the wheel"
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]


def test_the_installed_package_works_elsewhere(site, tmp_path):
    # -P: the directory we are in is not on the path; PYTHONPATH goes before the editable install of a developer's checkout.
    code = (
        "import hgq, hgq.converters, hgq.firmware_templates as t, hgq.numerics\n"
        "from hgq import plugins\n"
        "print(hgq.__file__); print(hgq.converters.__file__); print(plugins.names())"
    )
    lines = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert lines[0] == str(site / "hgq" / "__init__.py")
    assert lines[1] == str(site / "hgq" / "converters" / "__init__.py")
    assert lines[2] == "['hls4ml', 'qonnx', 'rtl']"


def test_the_installed_command_works_elsewhere(site, tmp_path):
    out = run(sys.executable, "-P", site / "bin" / "hgq", "--help", cwd=tmp_path, PYTHONPATH=str(site))
    assert "export" in out
    out = run(sys.executable, "-P", site / "bin" / "hgq", "doctor", "--json", cwd=tmp_path, PYTHONPATH=str(site))
    assert str(site) in out


def test_an_uninstalled_checkout_works(tmp_path):
    code = "import hgq.converters as c, hgq.firmware_templates as t; print(c.__file__, t.__file__)"
    out = run(sys.executable, "-S", "-c", code, cwd=ROOT)
    assert out.split() == [str(ROOT / "converters" / "__init__.py"), str(ROOT / "firmware_templates" / "__init__.py")]


def test_the_version_has_one_source():
    from importlib import metadata

    import hgq

    assert metadata.version("hgqc") == hgq.__version__
