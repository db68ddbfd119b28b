"""Every Python block of the README and the docs runs, and what they say about the project is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_snippets_of_the_docs_run(page, tmp_path):
    if found := blocks(page):
        run("\n".join(found), tmp_path)


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path):
    (code,) = blocks(ROOT / "README.md")
    assert "epochs=30" in code
    run(code.replace("epochs=30", "epochs=2"), tmp_path)
    assert (tmp_path / "jets.hgq").is_file() and any((tmp_path / "jets_rtl").iterdir())


def test_verbs_of_the_readme_exist():
    from hgq.cli import app

    assert set(re.findall(r"`hgq ([a-z]+)", README)) <= set(app.VERBS)


def test_extras_of_the_readme_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r'"\.\[([\w,]+)\]"', README):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_ci_runs_the_test_command_of_the_readme():
    assert len(re.findall(r"venv/bin/pytest", README)) == 1
    assert "grep -m 1 'venv/bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_links_to_files_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_what_the_docs_name_exists():
    """Files of the repository, Python names, and options of the command line: everything in backticks or behind ``hgq VERB``."""
    import typer

    from hgq.cli import app

    verbs = typer.main.get_command(app.build()).commands  # type: ignore[attr-defined]
    options = {name: {word for option in verb.params for word in option.opts} | {"--help"} for name, verb in verbs.items()}
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        files = re.findall(r"`((?:hgq|converters|benchmarks|tests|examples|scripts|firmware_templates|docs)/[\w./-]+)`", text)
        assert not [path for path in files if not (ROOT / path).exists()], page.name
        assert not [name for name in re.findall(r"`(hgq(?:\.\w+)+)`", text) if not _defined(name)], page.name
        for verb, words in re.findall(r"\bhgq ([a-z]+)((?: [^`\n#|]*)?)", text):
            asked = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", words))
            assert verb not in options or asked <= options[verb], f"{page.name}: hgq {verb}{words}"
        assert set(re.findall(r"`(--[a-z][a-z-]*)", text)) <= set().union(*options.values()), page.name


def test_what_strings_can_name_is_in_the_docs():
    for folder, decorator, page in (
        ("quantizers", "register_quantizer", "quantizers"),
        ("gradients", "register", "gradients"),
        ("training", "register_step", "gradients"),
    ):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for source in (ROOT / "hgq" / folder).glob("*.py"):
            for name in re.findall(rf'^@{decorator}\("(\w+)"', source.read_text(encoding="utf-8"), re.MULTILINE):
                assert re.search(rf"\b{name}\b", text), f"{page}.md does not tell of {name}"


def _defined(name: str) -> bool:
    """Whether a dotted name is a module or stands in one; read, not imported."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:split])
        found = next((path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()), None)
        if found is not None:
            if split == len(parts):
                return True
            given = r"^\s*(def|class) NAME\b|^NAME\b.*=|import .*\bNAME\b|^    NAME,|\"NAME\"".replace("NAME", parts[split])
            return re.search(given, found.read_text(encoding="utf-8"), re.MULTILINE) is not None
    return False
