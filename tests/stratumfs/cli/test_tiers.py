"""What ``stratumfs tier`` says, and its exit codes."""

from pathlib import Path
from typing import Any

import pytest

from stratumfs.cli import tiers
from stratumfs.cli.exit import Exit
from stratumfs.owner import client, locate
from stratumfs.owner.messages import RotateCold


@pytest.mark.parametrize(("left", "code"), [([], Exit.OK), (["/d0"], Exit.DEVICE)], ids=["all", "one-away"])
@pytest.mark.parametrize("as_json", [False, True])
def test_regression_a_rotation_that_leaves_a_device_says_so_by_its_code_and_shows_a_secret_that_one_disk_has(
    left: list[str],
    code: Exit,
    as_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / ("cold.key.new" if left else "cold.key")
    path.write_text("the secret\n")

    def answer(folder: Path, request: object) -> dict[str, Any]:
        assert (folder, request) == (tmp_path, RotateCold(None))
        return {"tier": "cold", "key_file": str(path), "left": left}

    monkeypatch.setattr(locate, "store_folder", lambda store: store)
    monkeypatch.setattr(client, "ask_or_open", answer)
    assert tiers.rotate(tmp_path, as_json=as_json) is code
    said = capsys.readouterr()
    assert ("the secret\n" in said.out) is not as_json
    assert ("/d0 has the old one still" in said.err) == (bool(left) and not as_json)
