"""S3's error table, and that every error of the store has a place in it."""

import pytest

from gateway.errors import CODES, TRANSLATION, S3Error, is_unexpected, translate
from stratumfs import errors as store_errors


def tree(root: type[store_errors.StratumError]) -> list[type[store_errors.StratumError]]:
    return [root] + [leaf for child in root.__subclasses__() for leaf in tree(child)]


def test_every_error_of_the_store_has_a_line_of_its_own() -> None:
    ours = {error for error in tree(store_errors.StratumError) if error.__module__ == store_errors.__name__}
    assert set(TRANSLATION) == ours
    assert set(TRANSLATION.values()) <= CODES.keys()


@pytest.mark.parametrize("error", tree(store_errors.StratumError))
def test_every_error_of_the_store_becomes_an_answer(error: type[store_errors.StratumError]) -> None:
    found = translate(error("it is so"))
    assert found.code in CODES
    assert 300 <= found.status < 600


def test_the_table_has_more_than_a_hundred_codes_of_sound_form() -> None:
    assert len(CODES) > 100
    for code, (status, message) in CODES.items():
        assert code.replace(".", "").isalnum()
        assert 300 <= status <= 507
        assert message


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (store_errors.NoSuchObject("k"), "NoSuchKey", 404),
        (store_errors.BucketExists("b"), "BucketAlreadyOwnedByYou", 409),
        (store_errors.PreconditionFailed("If-Match"), "PreconditionFailed", 412),
        (store_errors.NotModified(), "NotModified", 304),
        (store_errors.StoreFull("no room"), "InsufficientStorage", 507),
        (store_errors.StoreBusy("later"), "SlowDown", 503),
        (store_errors.TooFewShards("3 of 4"), "ServiceUnavailable", 503),
        (ValueError("a bug"), "InternalError", 500),
    ],
)
def test_errors_are_told_in_the_words_of_s3(error: Exception, code: str, status: int) -> None:
    found = translate(error)
    assert (found.code, found.status) == (code, status)


def test_a_read_only_store_names_its_device() -> None:
    error = translate(store_errors.StoreReadOnly("device 3 failed: replace it"))
    assert error.message == "device 3 failed: replace it"


def test_a_bug_tells_nothing_of_itself_and_is_unexpected() -> None:
    assert "secret" not in translate(RuntimeError("secret path")).message
    assert is_unexpected(RuntimeError())
    assert is_unexpected(store_errors.GeometryError())
    assert not is_unexpected(store_errors.StoreFull())


def test_a_group_of_one_kind_is_that_error() -> None:
    group = ExceptionGroup(
        "",
        [
            ExceptionGroup("", [store_errors.NoSuchBucket("b")]),
        ],
    )
    assert translate(group).code == "NoSuchBucket"
    assert translate(ExceptionGroup("", [ValueError(), KeyError()])).code == "InternalError"


def test_a_failed_condition_is_named() -> None:
    assert translate(store_errors.PreconditionFailed("If-None-Match")).elements == {"Condition": "If-None-Match"}


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        S3Error("NoSuchCode")
