"""What nobody should find in this repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINARY = {".png", ".gz"}
MARKERS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|<<<<" + r"<<<|>>>>" + r">>>|breakpoint\(\)")
LINES_MAX = 500


def tracked() -> list[Path]:
    # Also in a clone that is another user's, as a build machine's often is.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    paths = [ROOT / name.decode() for name in names if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    return {path.relative_to(ROOT): path.read_text("utf-8") for path in tracked()}


def test_no_marker_was_left(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            assert not MARKERS.search(line), f"{path}:{number}: {line.strip()}"


def test_lines_end_plainly(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        assert "\r" not in text, path
        assert not text or text.endswith("\n"), f"{path} does not end with a newline"
        if path.suffix in (".py", ".sh", ".toml", ".md"):
            for number, line in enumerate(text.splitlines(), 1):
                assert line == line.rstrip(), f"{path}:{number} ends with a blank"


def test_no_source_file_has_grown_too_long(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        if path.suffix == ".py" and path.parts[0] in ("stratumfs", "gateway", "tiering"):
            assert text.count("\n") <= LINES_MAX, f"{path} has {text.count(chr(10))} lines"


def test_every_module_says_what_it_is(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        if path.suffix == ".py" and path.parts[0] in ("stratumfs", "gateway", "tiering"):
            assert text.startswith('"""'), f"{path} has no docstring"


def test_names_say_what_is_inside(texts: dict[Path, str]) -> None:
    for path in texts:
        assert path.stem not in ("utils", "util", "common", "misc"), path


def test_no_machine_of_ours_is_named(texts: dict[Path, str]) -> None:
    """Paths and hosts of the places where it was written mean nothing to others."""
    for path, text in texts.items():
        found = re.search("/wo" + r"rk/\w+|index-" + "url|trusted-" + "host|find-" + "links", text)
        if path.name == "requirements.lock" or path == Path("tests/repo/test_tidy.py"):
            # Its head says how it was made: without them.
            assert not re.search(r"(?m)^--|https?://", text) or path.suffix == ".py", path
        else:
            assert found is None, f"{path}: {found.group()}"


def test_scripts_can_be_run(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        if text.startswith("#!"):
            assert (ROOT / path).stat().st_mode & 0o111, f"{path} is not executable"
