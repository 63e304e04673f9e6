"""Exit codes of what makes a catalog again."""

from pathlib import Path

import pytest

from stratumfs.cli import catalog
from stratumfs.cli.exit import Exit
from stratumfs.ids import VolumeId
from stratumfs.owner import rebuild_catalog
from stratumfs.owner.rebuild_catalog import Report


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report(), Exit.OK),
        (Report(unclaimed={VolumeId(bytes(16)): 10}), Exit.DATA),
        (Report(unclaimed={VolumeId(bytes(16)): 0}), Exit.OK),
        (Report(mixed=[b"main/mixed"]), Exit.DATA),
    ],
)
def test_a_rebuild_that_leaves_bytes_behind_says_so_by_its_code(
    report: Report, code: Exit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rebuild_catalog, "rebuild_catalog", lambda store, force, told: report)
    assert catalog.rebuild(Path("/nowhere")) is code
    assert ("Volume" in capsys.readouterr().out) == bool(report.unclaimed)
