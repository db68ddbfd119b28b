from __future__ import annotations

import errno
import os
import stat
import zipfile
from pathlib import Path

import pytest

from hgq.errors import ConfigError, FileFormatError, OutputError
from hgq.project import MANIFEST, FirmwareProject, check_name, write_file_atomically

FILES = {"build.sh": "#!/bin/sh\nmake\n", "src/top.v": "module top; endmodule\n", "src/rom.bin": bytes(range(256))}


@pytest.fixture
def project() -> FirmwareProject:
    return FirmwareProject("jets", FILES, {"backend": "rtl", "clock_ns": 5.0, "shape": (3, 4)})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_written_files_are_the_project(project, tmp_path):
    out = project.write(tmp_path / "a" / "b")
    assert out == tmp_path / "a" / "b"
    written = tree(out)
    assert written.pop(MANIFEST)
    assert written == {"build.sh": b"#!/bin/sh\nmake\n", "src/top.v": b"module top; endmodule\n", "src/rom.bin": bytes(range(256))}
    assert os.access(out / "build.sh", os.X_OK) and not (out / "src/top.v").stat().st_mode & stat.S_IXUSR
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"], "nothing is left beside it"


def test_same_input_same_bytes(project, tmp_path):
    again = FirmwareProject("jets", dict(reversed(FILES.items())), {"shape": [3, 4], "clock_ns": 5.0, "backend": "rtl"})
    assert again.digest() == project.digest()
    assert tree(project.write(tmp_path / "x")) == tree(again.write(tmp_path / "y"))
    assert project.archive(tmp_path / "x.zip").read_bytes() == again.archive(tmp_path / "y.zip").read_bytes()


def test_digest_sees_name_meta_paths_and_contents(project):
    others = [
        FirmwareProject("jets2", FILES, project.meta),
        FirmwareProject("jets", FILES, {}),
        FirmwareProject("jets", {**FILES, "x": ""}, project.meta),
        FirmwareProject("jets", {**FILES, "build.sh": "#!/bin/sh\n"}, project.meta),
    ]
    assert len({project.digest(), *(other.digest() for other in others)}) == 5


def test_archive_unpacks_to_the_same_files(project, tmp_path):
    with zipfile.ZipFile(project.archive(tmp_path / "p.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert (archive.getinfo("jets/build.sh").external_attr >> 16) & 0o777 == 0o755
    assert tree(tmp_path / "unpacked" / "jets") == tree(project.write(tmp_path / "direct"))


def test_round_trip_ignores_what_tools_left(project, tmp_path):
    out = project.write(tmp_path / "p")
    (out / "obj_dir").mkdir()
    (out / "obj_dir" / "junk.o").write_bytes(b"junk")
    again = FirmwareProject.from_directory(out)
    assert again.digest() == project.digest() and again.diff(project) == []


def test_diff_shows_an_edit_and_a_deletion(project, tmp_path):
    out = project.write(tmp_path / "p")
    (out / "src/top.v").write_text("module top2; endmodule\n")
    (out / "src/rom.bin").unlink()
    changes = project.diff(FirmwareProject.from_directory(out))
    assert [(change.path, change.kind) for change in changes] == [("src/rom.bin", "removed"), ("src/top.v", "changed")]
    assert changes[1].text == "--- a/src/top.v\n+++ b/src/top.v\n@@ -1 +1 @@\n-module top; endmodule\n+module top2; endmodule\n"


def test_a_foreign_directory_is_no_project(tmp_path):
    with pytest.raises(FileFormatError, match=r"not a project written by hgq"):
        FirmwareProject.from_directory(tmp_path)


def test_an_empty_directory_may_be_written(project, tmp_path):
    (tmp_path / "p").mkdir()
    project.write(tmp_path / "p")
    assert (tmp_path / "p" / MANIFEST).is_file()


def test_an_existing_project_needs_force(project, tmp_path):
    out = project.write(tmp_path / "p")
    (out / "stale.txt").write_text("old")
    with pytest.raises(OutputError, match=r"directory is there already and is not empty\.\n  Where: .*\n  Fix: Name another.*--force"):
        project.write(out)
    assert (out / "stale.txt").exists()
    project.write(out, force=True)
    assert not (out / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_force_never_replaces_what_is_not_ours(project, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not written by hgq, so even --force does not replace it"):
        project.write(tmp_path, force=True)
    file = tmp_path / "thesis.tex"
    with pytest.raises(OutputError, match="not written by hgq"):
        project.write(file, force=True)
    assert file.read_text() == "years of work"


def full_disk(monkeypatch, after: int) -> None:
    """The disk is full after some writes."""
    count = iter(range(1000))
    write = Path.write_bytes

    def fails(self, data):
        if next(count) >= after:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fails)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_full_disk_leaves_nothing(project, tmp_path, monkeypatch, after):
    full_disk(monkeypatch, after)
    with pytest.raises(OutputError, match=r"The disk is full\.\n  Where: .*/deep/er/p\n  Received: No space.*\n  Fix: Free some space"):
        project.write(tmp_path / "deep" / "er" / "p")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_earlier_project(project, tmp_path, monkeypatch):
    out = project.write(tmp_path / "p")
    before = tree(out)
    full_disk(monkeypatch, 2)
    with pytest.raises(OutputError, match="disk is full"):
        FirmwareProject("other", {"a": "1", "b": "2", "c": "3"}).write(out, force=True)
    assert tree(tmp_path) == {f"p/{path}": data for path, data in before.items()}


def test_a_failed_last_rename_brings_the_earlier_project_back(project, tmp_path, monkeypatch):
    out = project.write(tmp_path / "p")
    before, rename = tree(out), Path.rename

    def fails(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OutputError, match="No permission to write here"):
        project.write(out, force=True)
    assert tree(tmp_path) == {f"p/{path}": data for path, data in before.items()}


def test_interruption_leaves_nothing(project, tmp_path, monkeypatch):
    def interrupted(self, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.write(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        write_file_atomically(tmp_path / "q" / "f", b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "text"), [(errno.EROFS, "read-only"), (errno.EACCES, "No permission"), (errno.EDQUOT, "quota")])
def test_read_only_places(project, tmp_path, monkeypatch, code, text):
    def fails(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", fails)
    with pytest.raises(OutputError, match=text) as caught:
        project.write(tmp_path / "p")
    assert caught.value.fix and caught.value.exit_code == 2


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_place_where_even_root_cannot_write(project):
    with pytest.raises(OutputError, match=r"Where: /proc/nowhere/p"):
        project.write("/proc/nowhere/p")
    with pytest.raises(OutputError, match=r"Where: /proc/nowhere"):
        write_file_atomically("/proc/nowhere", b"x")


def test_a_file_in_the_way(project, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="A part of this path is a file"):
        project.write(tmp_path / "file" / "p")


def test_write_file_atomically(tmp_path, monkeypatch):
    path = write_file_atomically(tmp_path / "new" / "model.hgq", b"one")
    with pytest.raises(OutputError, match="file is there already"):
        write_file_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    write_file_atomically(path, "zwei", force=True)
    assert path.read_text() == "zwei"
    with pytest.raises(OutputError, match="exists and is not a file"):
        write_file_atomically(tmp_path, b"x", force=True)
    full_disk(monkeypatch, 0)
    with pytest.raises(OutputError, match="disk is full"):
        write_file_atomically(path, b"three", force=True)
    assert path.read_text() == "zwei" and [file.name for file in path.parent.iterdir()] == ["model.hgq"]


@pytest.mark.parametrize("name", ["a", "hgq_top", "Jets2", "x" * 64])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2jets",
        "a b",
        "a;rm -rf ~",
        "$(reboot)",
        "[exec ls]",
        "a\n",
        "a-b",
        "../a",
        "x" * 65,
        "ä",
        "a__b",
        "a_",
        "_a",
        "module",
        "Entity",
        7,
    ],
)
def test_bad_names(name):
    with pytest.raises(ConfigError, match=r"cannot be used for a project\.\n  Where: project name") as caught:
        check_name(name)
    suggestion = str(caught.value.fix).split("'")[1]
    assert check_name(suggestion) == suggestion


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\\b", "", ".", "a//b", "a/", "./a", "a\nb", "c:x", MANIFEST])
def test_bad_paths(path):
    with pytest.raises(ConfigError, match="A path in this project is not allowed"):
        FirmwareProject("p", {path: ""})


def test_a_path_is_a_file_or_a_folder():
    with pytest.raises(ConfigError, match=r"both a file and a folder\.\n  Where: a"):
        FirmwareProject("p", {"a": "", "a/b": ""})


def test_meta_is_json():
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        FirmwareProject("p", {}, {"x": object()})
