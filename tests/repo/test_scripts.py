"""The scripts of tools/, as far as they can be tried without installing anything."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("tools/run", "tools/test", "tools/check", "tools/install", "tools/setup.sh", ".ci/run")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_posix_shell(script: str) -> None:
    subprocess.run(["dash", "-n", ROOT / script], check=True, capture_output=True)
    if script != "tools/setup.sh":
        assert (ROOT / script).read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("script", ["tools/run", "tools/install"])
def test_help_is_help_and_unknown_arguments_are_refused(script: str) -> None:
    done = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {script}")
    bad = subprocess.run([ROOT / script, "--nonsense"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "unknown argument --nonsense" in bad.stderr


def test_every_dependency_is_locked() -> None:
    locked = (ROOT / "tools" / "requirements.lock").read_text()
    names = {line.partition("==")[0] for line in locked.splitlines() if "==" in line}
    project = (ROOT / "pyproject.toml").read_text()
    dependencies = project.partition("dependencies = [")[2].partition("[project.scripts]")[0]
    for word in dependencies.split('"')[1::2]:
        name = word.split(">")[0].split("<")[0].split("=")[0].strip().lower()
        if name:
            assert name in names, f"{name} is not in tools/requirements.lock"


def test_the_readme_names_what_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("tools/run", "tools/test", "tools/check", "tools/install"):
        assert name in text
        assert (ROOT / name).stat().st_mode & 0o111
    first = text.partition("## Six files to read first")[2].partition("\n## ")[0]
    files = re.findall(r"(?m)^\d\. `([^`]+)`", first)
    assert len(files) == 6
    assert all((ROOT / name).is_file() for name in files)
    assert "\n## Changes\n" in text
    assert text.count("\n") < 80, "one page"
