import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import S3Error
from gateway.ranges import Span, parse_copy_range, parse_range


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=4-7", 11, (4, 8)),
        ("bytes=4-", 11, (4, 11)),
        ("bytes=-7", 11, (4, 11)),
        ("bytes=-70", 11, (0, 11)),
        ("bytes=3-99999999999", 11, (3, 11)),
        ("BYTES = 3 - 5", 11, (3, 6)),
    ],
)
def test_a_range_is_cut_at_the_end_of_the_object(value: str, size: int, expected: tuple[int, int]) -> None:
    assert parse_range(value, size) == Span(*expected, size)


@pytest.mark.parametrize(
    "value",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-3", "bytes=0-2,5-6", "items=0-3", "bytes=a-b", "bytes=٣-٤"],
)
def test_a_range_that_is_none_or_several_asks_for_everything(value: str | None) -> None:
    assert parse_range(value, 10) is None


def test_a_number_longer_than_any_offset_is_ignored() -> None:
    assert parse_range("bytes=0-" + "9" * 5000, 10) is None


@pytest.mark.parametrize(
    ("value", "size"), [("bytes=10-", 10), ("bytes=40-50", 11), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_without_a_byte_is_416(value: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        parse_range(value, size)
    assert caught.value.code == "InvalidRange"
    assert caught.value.headers == {"content-range": f"bytes */{size}"}


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_mean_what_slices_mean(size: int, first: int, last: int) -> None:
    content = bytes(range(size))
    wanted = content[first : last + 1]
    if first > last:
        assert parse_range(f"bytes={first}-{last}", size) is None
    elif not wanted:
        with pytest.raises(S3Error):
            parse_range(f"bytes={first}-{last}", size)
    else:
        span = parse_range(f"bytes={first}-{last}", size)
        assert span is not None
        assert content[span.start : span.stop] == wanted
        assert span.content_range == f"bytes {span.start}-{span.stop - 1}/{size}"


@pytest.mark.parametrize(
    "value", ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5"]
)
def test_a_copy_range_is_never_guessed(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_copy_range(value)
    assert caught.value.code == "InvalidArgument"


def test_a_copy_range_names_its_first_and_last_byte() -> None:
    assert parse_copy_range("bytes=5-9") == (5, 9)
    assert parse_copy_range(None) is None
