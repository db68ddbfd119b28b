from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from hgq.errors import FileFormatError, OutputError
from hgq.ir import file, interpret
from tests.ir.small import small_graph


def repack(path, **changes) -> None:
    """Replace members of the zip: a value of None drops one, a function maps its bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        key = next(k for k in members if k.startswith(name))
        if change is None:
            del members[key]
        else:
            members[key] = change(members[key])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def path(tmp_path, graph):
    return file.save(graph, tmp_path / "net.hgq")


def test_round_trip(path, graph):
    back = file.load(path)
    assert back.digest() == graph.digest()
    assert back.meta == {"accuracy": 0.5}
    x = np.random.default_rng(1).normal(size=(200, 6)) * 4
    assert np.array_equal(interpret.run(back, x)["head/add"], interpret.run(graph, x)["head/add"])


def test_equal_graphs_give_equal_bytes(path):
    assert path.read_bytes() == file.to_bytes(small_graph())


@pytest.mark.parametrize("seed", range(5))
def test_other_graphs_round_trip(tmp_path, seed):
    graph = small_graph(seed)
    assert file.load(file.save(graph, tmp_path / "m.hgq")).digest() == graph.digest()


def test_an_existing_file_is_kept_without_force(path, graph):
    with pytest.raises(OutputError, match="--force"):
        file.save(graph, path)
    file.save(graph, path, force=True)


def test_every_truncation_is_refused(tmp_path, path):
    content = path.read_bytes()
    for tenth in range(10):
        cut = tmp_path / "cut.hgq"
        cut.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(FileFormatError, match=r"not a \.hgq file, or it is truncated"):
            file.load(cut)


def test_flipped_bytes_are_refused_or_harmless(path, graph):
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[position] ^= 0xFF
        path.write_bytes(bytes(broken))
        with suppress(FileFormatError):
            assert file.load(path).digest() == graph.digest()  # a byte of the zip that means nothing, such as a date


def test_missing(tmp_path):
    with pytest.raises(FileFormatError, match="no such model file"):
        file.load(tmp_path / "nothing.hgq")


def test_foreign_zip(tmp_path):
    other = tmp_path / "x.keras"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(FileFormatError, match=r"(?s)config\.json.*run `hgq freeze` on it first"):
        file.load(other)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_not_a_zip(tmp_path, content):
    other = tmp_path / "x.hgq"
    other.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"This is not a \.hgq file"):
        file.load(other)


def test_newer_schema(path):
    repack(path, meta=lambda b: json.dumps({**json.loads(b), "schema": 99}).encode())
    with pytest.raises(FileFormatError, match=r"(?s)newer hgqc.*schema 99.*pip install -U hgqc"):
        file.load(path)


@pytest.mark.parametrize(
    "meta", [b"[]", b"{}", b"nonsense", json.dumps({"schema": "1"}).encode(), json.dumps({"schema": 1, "digest": "0"}).encode()]
)
def test_strange_meta(path, meta):
    repack(path, meta=lambda _: meta)
    with pytest.raises(FileFormatError):
        file.load(path)


def test_a_tampered_constant_is_noticed(path):
    def tamper(packed: bytes) -> bytes:
        with np.load(io.BytesIO(packed)) as npz:
            arrays = {key: npz[key] for key in npz.files}
        bias = arrays["const:dense/bias"]
        used = np.flatnonzero(np.abs(bias) > 1)[0]
        bias[used] -= np.sign(bias[used]) * 1  # smaller, so that it still fits its format
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    repack(path, consts=tamper)
    with pytest.raises(FileFormatError, match=r"(?s)own content hash.*freeze the Keras model again"):
        file.load(path)


@pytest.mark.parametrize("member", ["graph", "consts", "meta"])
def test_a_missing_member(path, member):
    repack(path, **{member: None})
    with pytest.raises(FileFormatError):
        file.load(path)


def test_a_graph_that_breaks_the_spec_is_a_damaged_file(path):
    repack(path, graph=lambda b: b.replace(b'"matmul"', b'"matmol"'))
    with pytest.raises(ValueError, match="Unknown op"):
        file.load(path)


def test_pickles_are_never_loaded(path):
    def evil(packed: bytes) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **{"const:dense/bias": np.array([{"a": 1}], dtype=object)})
        return buffer.getvalue()

    repack(path, consts=evil)
    with pytest.raises(FileFormatError):
        file.load(path)
