"""Remotes pass the suite: S3's against a real service, and the one in memory that other tests use."""

import os
from pathlib import Path

import pytest

from stratumfs.errors import DeviceFailed
from stratumfs.shards.remote import Remote, S3Remote
from stratumfs.shards.s3 import Keys, keys_from
from tests.remotes import HASTE, MemoryRemote, remote_at
from tests.suites.remote import RemoteSuite
from tools.measure.endpoint import Endpoint
from tools.measure.systems import BUCKET


class TestMemoryRemote(RemoteSuite):
    @pytest.fixture
    def remote(self) -> Remote:
        return MemoryRemote()


@pytest.mark.slow
@pytest.mark.client
class TestS3Remote(RemoteSuite):
    @pytest.fixture
    def remote(self, service: Endpoint) -> Remote:
        return remote_at(service, os.urandom(4).hex(), read_back=False)


@pytest.mark.slow
@pytest.mark.client
class TestService:
    def test_what_is_put_can_be_read_back_first(self, service: Endpoint) -> None:
        remote = remote_at(service, "read-back")
        remote.put("a", b"abc" * 700_000)
        remote.put("nothing", b"")
        assert remote.get("a", 3, 3) == b"abc"

    def test_a_prefix_sees_no_other(self, service: Endpoint) -> None:
        remote_at(service, "one").put("a", b"1")
        remote_at(service, "one-more").put("b", b"2")
        assert list(remote_at(service, "one").names("")) == ["a"]

    def test_a_bucket_that_is_missing_is_no_missing_object(self, service: Endpoint) -> None:
        keys = Keys(service.access_key, service.secret_key)
        remote = S3Remote("s3://absent/x", f"http://{service.host}", lambda: keys, patience=HASTE)
        for verb in (  # a put makes the bucket, as SeaweedFS does it
            lambda: remote.get("a", 0, 1),
            lambda: remote.size("a"),
            lambda: remote.delete("a"),
            lambda: list(remote.names("")),
        ):
            with pytest.raises(DeviceFailed, match=r"s3://absent/x.*(NoSuchBucket|bucket does not exist)"):
                verb()

    def test_credentials_are_read_anew_once_when_they_are_refused(self, service: Endpoint) -> None:
        given = iter([Keys("old", "gone"), Keys(service.access_key, service.secret_key)])
        remote = S3Remote(f"s3://{BUCKET}/renewed", f"http://{service.host}", lambda: next(given), patience=HASTE)
        remote.put("a", b"1")
        assert remote.get("a", 0, 1) == b"1"

    def test_credentials_that_stay_refused_end_it_at_once(self, service: Endpoint) -> None:
        asked: list[Keys] = []

        def keys() -> Keys:
            asked.append(Keys("wrong", f"secret {len(asked)}"))
            return asked[-1]

        remote = S3Remote(f"s3://{BUCKET}/refused", f"http://{service.host}", keys, patience=HASTE)
        with pytest.raises(DeviceFailed, match=r"InvalidAccessKeyId.*|Forbidden") as caught:
            remote.size("a")
        assert "attempts)" in str(caught.value)
        assert len(asked) == 2
        assert "secret" not in str(caught.value)

    def test_a_remote_that_is_closed_answers_at_once(self, service: Endpoint) -> None:
        remote = remote_at(service, "closed")
        remote.put("a", b"1")
        remote.close()
        with pytest.raises(DeviceFailed, match="over"):
            remote.get("a", 0, 1)


def test_keys_in_a_file_may_have_a_token(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\naws_session_token = c\n")
    assert keys_from(path, "cold.credentials") == Keys("a", "b", "c")
    assert "b" not in repr(Keys("a", "b")).replace("Keys", "")
