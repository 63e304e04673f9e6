import pytest

from gateway.conditions import range_holds, read_conditions, source_conditions, write_conditions
from gateway.errors import S3Error
from stratumfs.ids import InodeNo
from stratumfs.values import Conditions, ObjectInfo, ObjectSpec, ReadConditions

MODIFIED_S = 1_445_412_480  # Wed, 21 Oct 2015 07:28:00 GMT
AT = "Wed, 21 Oct 2015 07:28:00 GMT"
BEFORE = "Wed, 21 Oct 2015 07:27:59 GMT"
INFO = ObjectInfo(InodeNo(7), 11, "abc", MODIFIED_S * 10**9 + 999_999_999, ObjectSpec())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-match": '"abc"'}, ReadConditions(if_match=("abc",))),
        ({"if-match": "abc"}, ReadConditions(if_match=("abc",))),
        ({"if-match": '"x", "abc"'}, ReadConditions(if_match=("x", "abc"))),
        ({"if-none-match": "*"}, ReadConditions(if_none_match=("*",))),
        ({"if-none-match": 'W/"abc"'}, ReadConditions(if_none_match=("abc",))),
        ({"if-modified-since": AT}, ReadConditions(if_modified_since_s=MODIFIED_S)),
        ({"if-unmodified-since": BEFORE}, ReadConditions(if_unmodified_since_s=MODIFIED_S - 1)),
        ({"if-modified-since": "rubbish"}, None),
        # a time beside an ETag of its kind is void
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, ReadConditions(if_match=("abc",))),
        ({"if-none-match": '"x"', "if-modified-since": AT}, ReadConditions(if_none_match=("x",))),
    ],
)
def test_conditions_of_a_read(headers: dict[str, str], expected: ReadConditions | None) -> None:
    assert read_conditions(headers) == expected


def test_a_copy_names_its_source_conditions_by_their_own_headers() -> None:
    headers = {"x-amz-copy-source-if-none-match": '"e"', "if-match": '"of the target"'}
    assert source_conditions(headers) == ReadConditions(if_none_match=("e",))
    assert write_conditions(headers) == Conditions(if_match=("of the target",))


def test_a_source_condition_takes_iso_dates_too() -> None:
    found = source_conditions({"x-amz-copy-source-if-unmodified-since": "2015-10-21T07:28:00Z"})
    assert found == ReadConditions(if_unmodified_since_s=MODIFIED_S)


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
def test_a_write_never_ignores_a_condition_that_it_does_not_know(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        write_conditions({name: AT})
    assert caught.value.code == "NotImplemented"


@pytest.mark.parametrize("value", ["", " ", '"a', 'a b"', '"a" "b"'])
def test_a_malformed_list_of_etags_is_refused(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        write_conditions({"if-match": value})
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [(None, True), ('"abc"', True), ('W/"abc"', False), ('"x"', False), (AT, True), (BEFORE, False)],
)
def test_a_range_is_void_when_the_object_is_another(condition: str | None, holds: bool) -> None:
    assert range_holds(condition, INFO) is holds
