from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import S3Error
from gateway.objects.source import parse_source

KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


@given(KEYS, st.booleans(), st.sampled_from([None, "null", "v1"]))
def test_any_key_can_be_a_source(key: str, slash: bool, version: str | None) -> None:
    value = ("/" if slash else "") + "bucket/" + quote(key) + (f"?versionId={version}" if version else "")
    assert parse_source(value) == ("bucket", key.encode(), version)


@pytest.mark.parametrize(
    "value", ["", "/", "bucket", "bucket/", "/bucket/", "b/%ff", "b/%00", "%ff/k", "b/k?x=1", "arn:aws:s3:r:1:x/k"]
)
def test_what_names_no_object_is_refused(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_source(value)
    assert caught.value.code == "InvalidArgument"
