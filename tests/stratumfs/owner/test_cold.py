"""What an owner opens the cold tier with."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stratumfs.config import Cold, Settings, Tier
from stratumfs.errors import ConfigError
from stratumfs.ids import StoreId
from stratumfs.owner import cold_key
from stratumfs.owner.cold import begin_cold, open_cold

STORE = StoreId(b"s" * 16)


def test_regression_keys_that_others_can_read_are_refused_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the service is asked for anything; a store that has the tier already opens."""
    monkeypatch.setattr(cold_key, "_SCRYPT_N", 2)
    keys, secret, device = tmp_path / "keys", tmp_path / "secret", tmp_path / "d0"
    device.mkdir()
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    keys.chmod(0o640)
    cold = Cold("s3://bucket/prefix", "http://127.0.0.1:9", str(keys), str(secret))
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        begin_cold(STORE, cold, [device])
    assert str(keys) in str(refused.value)
    assert not secret.exists()
    cold_key.write_secret(secret, "words")
    cold_key.write_wrapped(device, cold_key.make_key(STORE, "words"))
    settings = Settings(Tier(k=4, m=2), cold=cold)
    for mode, told in ((0o640, ["cold_credentials_open"]), (0o600, [])):
        keys.chmod(mode)
        with capture_logs() as said:
            assert open_cold(STORE, cold, [device], settings).locked is None
        assert [each["event"] for each in said] == told
