import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import S3Error
from gateway.numbers import bounded, part_number
from gateway.paging import after_token, asked_page, token_of


@given(st.binary())
def test_a_token_brings_back_where_a_listing_stopped(after: bytes) -> None:
    assert after_token(token_of(after)) == after


@pytest.mark.parametrize("token", ["x", "AAAA", "ä", "AQ", " AQ=="])
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(S3Error) as caught:
        after_token(token)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(("value", "expected"), [(None, 50), ("", 50), ("0", 0), ("7", 7), ("+7", 7), ("101", 100)])
def test_counts_are_cut_to_what_is_allowed(value: str | None, expected: int) -> None:
    assert bounded({} if value is None else {"n": value}, "n", 50, 100) == expected


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "2147483648", "9" * 5000, "٣"])
def test_what_is_no_count_is_refused(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        bounded({"n": value}, "n", 50, 100)
    assert caught.value.code == "InvalidArgument"


def test_part_numbers_go_from_one_to_ten_thousand() -> None:
    assert (part_number("1"), part_number("10000")) == (1, 10_000)
    for value in ("0", "10001", "", "-1", "one", "1e3"):
        with pytest.raises(S3Error):
            part_number(value)


def test_keys_are_percent_encoded_for_those_who_ask() -> None:
    assert asked_page({"encoding-type": "url", "prefix": "ä"}, "max-keys").url
    assert asked_page({}, "max-keys").limit == 1000
    with pytest.raises(S3Error):
        asked_page({"encoding-type": "base64"}, "max-keys")
