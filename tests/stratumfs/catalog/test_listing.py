"""Listings against a sorted list of keys."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.catalog.listing import behind, list_keys
from stratumfs.catalog.objects import NewObject, delete_object, put_object
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import split
from stratumfs.ids import ExtentId, InodeNo
from stratumfs.values import Conditions, ObjectSpec
from tests.stratumfs.catalog.tables import Tables

keys = st.text(alphabet="ab/-\u00e9", min_size=1, max_size=7).map(str.encode)


def put(tables: Tables, bucket: InodeNo, key: bytes) -> None:
    depth = len(split(key))
    inos, cookies = tables.ids(depth), tables.ids(depth)
    new = NewObject(
        ObjectSpec(),
        0,
        "00" * 16,
        (),
        InodeNo(tables.ids()),
        range(inos, inos + depth),
        range(cookies, cookies + depth),
        ExtentId(tables.ids()),
    )
    put_object(tables.tx, bucket, key, new, Conditions(), 5)


def model(present: set[bytes], prefix: bytes, delimiter: bytes) -> list[bytes]:
    """Keys and common prefixes of a listing, in order."""
    found: list[bytes] = []
    for key in sorted(present):
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            item = key if cut < 0 else key[: cut + len(delimiter)]
            if item not in found[-1:]:
                found.append(item)
    return found


@given(
    st.lists(keys, max_size=14),
    st.lists(st.integers(0, 13), max_size=6),
    st.text(alphabet="ab/", max_size=3).map(str.encode),
    st.sampled_from([b"", b"/", b"-", b"b/"]),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_pages_of_any_size_are_the_sorted_keys(
    wanted: list[bytes], drops: list[int], prefix: bytes, delimiter: bytes, limit: int, budget: int
) -> None:
    tables = Tables()
    bucket = tables.bucket()
    present: set[bytes] = set()
    for key in wanted:
        put(tables, bucket, key)
        present.add(key)
    for index in drops:
        if index < len(wanted):
            key = wanted[index]
            assert delete_object(tables.tx, bucket, key, Conditions(), 6) == (key in present)
            present.discard(key)
    found: list[bytes] = []
    start: bytes | None = b""
    while start is not None:
        page = list_keys(tables.tx, bucket, prefix, delimiter, start, limit, budget)
        assert len(page.objects) + len(page.prefixes) <= limit
        found += sorted([*(each.key for each in page.objects), *page.prefixes])
        assert page.resume is None or page.resume >= start
        start = page.resume
    assert found == model(present, prefix, delimiter)
    # Starting behind any of them gives the rest.
    for item in found:
        rolled = delimiter and item.endswith(delimiter) and len(item) > len(prefix)
        after = behind(item) if rolled else item + b"\0"
        page = list_keys(tables.tx, bucket, prefix, delimiter, after, 1000, 1000)
        rest = sorted([*(each.key for each in page.objects), *page.prefixes])
        assert rest == [each for each in found if each >= after]
    # Starting in the middle of what rolls up shows the prefix of what is left.
    for key in present:
        if key >= prefix:
            page = list_keys(tables.tx, bucket, prefix, delimiter, key + b"\0", 1000, 1000)
            rest = sorted([*(each.key for each in page.objects), *page.prefixes])
            assert rest == model({each for each in present if each > key}, prefix, delimiter)
    if not present:
        assert tables.tx.one("select count(*) from entry where parent = ?", (bucket,)) == (0,)


def test_directories_on_the_way_count_against_the_budget() -> None:
    """Else a few keys, each deep in directories of its own, would keep the loop for as long as all of them need."""
    tables = Tables()
    bucket = tables.bucket()
    wanted = [b"%d/" % branch + b"d/" * 30 + b"k-k" for branch in range(9)]
    for key in wanted:
        put(tables, bucket, key)
    for delimiter in (b"", b"-"):
        found: list[bytes] = []
        start: bytes | None = b""
        while start is not None:
            page = list_keys(tables.tx, bucket, b"", delimiter, start, 1000, 40)
            assert len(page.objects) + len(page.prefixes) <= 2
            found += [*(each.key for each in page.objects), *page.prefixes]
            start = page.resume
        assert found == model(set(wanted), b"", delimiter)


def test_regression_of_keys_that_roll_up_few_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prefix is looked for anew: a page's worth of rows was fetched for each of a thousand."""
    tables = Tables()
    bucket = tables.bucket()
    for number in range(1000):
        put(tables, bucket, b"%d-%d" % (number % 10, number))
    fetched = 0
    every = Transaction.all

    def counted(tx: Transaction, *args: Any) -> list[tuple[Any, ...]]:
        nonlocal fetched
        found = every(tx, *args)
        fetched += len(found)
        return found

    monkeypatch.setattr(Transaction, "all", counted)
    page = list_keys(tables.tx, bucket, b"", b"-", b"", 1000, 1000)
    assert page.prefixes == [b"%d-" % number for number in range(10)]
    assert fetched <= 200
