"""``tools/run`` as a newcomer types it, with the packages of the test's interpreter in place of an environment."""

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stratumfs.owner.mounts import mount_at
from tests.doors import BIN
from tools.measure.processes import free_port

pytestmark = [pytest.mark.mount, pytest.mark.client, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
RUN_S = 500.0


@dataclass
class Script:
    """tools/run with places of its own; ``folder`` holds store and mount point."""

    folder: Path
    port: int

    @property
    def store(self) -> Path:
        return self.folder / "the store"

    @property
    def mount(self) -> Path:
        return self.folder / "the mount"

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        given = words or ("--mount", str(self.mount), "--listen", f"127.0.0.1:{self.port}")
        command = [ROOT / "tools" / "run", "--store", str(self.store), *given]
        environment = os.environ | {"STRATUM_VENV": str(self.folder / "venv")}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd=self.folder, timeout=RUN_S
        )


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "bin").symlink_to(BIN)
    sum_ = "cat pyproject.toml tools/requirements.lock | cksum"
    done = subprocess.run(["sh", "-c", sum_], cwd=ROOT, capture_output=True, text=True, check=True)
    (venv / ".installed").write_text(f"clients {done.stdout.strip()}")
    script = Script(tmp_path, free_port())
    yield script
    script("--stop")


def test_it_shows_both_doors_and_lines_that_work_as_they_stand(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    first = script()
    assert first.returncode == 0, first.stderr
    assert "S3 reads:        This was written through the mount." in first.stdout
    assert "the mount reads: This was written through S3." in first.stdout
    assert (script.store / "aws.config").stat().st_mode & 0o777 == 0o600
    for line in re.findall(r"(?m)^    (.+)$", first.stdout.partition("\nTry:\n")[2]):
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=RUN_S)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (script.mount / "demo" / "README.md").read_text() == (ROOT / "README.md").read_text()

    (script.mount / "demo" / "from-s3.txt").write_text("mine now\n")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # of somebody who uses AWS too
    again = script()
    assert again.returncode == 0, again.stderr
    assert "S3 reads:        This was written through the mount." in again.stdout
    assert "the mount reads: mine now" in again.stdout

    end = re.search(r"(?m)^End it: (.+)$", again.stdout)
    assert end is not None
    words = shlex.split(end.group(1))
    assert words[1:] == ["--store", str(script.store), "--stop"]
    assert script("--stop").returncode == 0
    assert mount_at(script.mount) is None
    assert script("--stop").returncode == 0


def test_what_is_no_store_and_what_cannot_become_one_is_left_as_it_was(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.store.mkdir()
    (script.store / "thesis").touch()
    foreign = script()
    assert foreign.returncode != 0
    assert "choose another place by --store DIR" in foreign.stderr
    assert os.listdir(script.store) == ["thesis"]
    (script.store / "thesis").unlink()
    monkeypatch.setenv("STRATUM_ACCESS_KEY_ID", "half")
    half = script()
    assert half.returncode != 0
    assert "STRATUM_SECRET_ACCESS_KEY go together" in half.stderr
    assert os.listdir(script.store) == []


def test_a_busy_port_and_an_occupied_mount_point_leave_nothing_running(script: Script) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", script.port))
        taken.listen()
        busy = script()
    assert busy.returncode != 0
    assert "choose another port" in busy.stderr
    assert not script.mount.exists()
    script.mount.mkdir()
    (script.mount / "thesis").touch()
    occupied = script()
    assert occupied.returncode != 0
    assert "choose an empty directory" in occupied.stderr
    assert not (script.store / "control").exists()
    assert mount_at(script.mount) is None
