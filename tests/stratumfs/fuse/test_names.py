"""POSIX names and key segments: each side reaches the other and comes back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stratumfs.fuse.names import MARKER, digest, readings, shadow, spelled
from stratumfs.limits import NAME_MAX
from stratumfs.values import Name

_letters = st.sampled_from([b"a", b".", b"=", b"3D", b"k", b"o", b"b", b"d", b"e", b"\xff", "é".encode(), MARKER])
_pieces = st.lists(_letters, max_size=12).map(b"".join)
_marked = st.tuples(st.sampled_from([b"", MARKER, MARKER + b"k", MARKER + b"o", MARKER + b"b" + MARKER]), _pieces)
_bytes = st.one_of(st.binary(max_size=NAME_MAX), _marked.map(b"".join), st.sampled_from([b".versions", b".snapshot"]))
posix_names = _bytes.map(lambda name: name.replace(b"/", b"x").replace(b"\0", b"y")[:NAME_MAX]).filter(
    lambda name: name not in (b"", b".", b"..")
)
_texts = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=600).map(str.encode),
    _bytes.map(lambda name: name.decode("utf-8", "ignore").replace("/", "x").replace("\0", "y").encode()),
    st.sampled_from([b"", b".", b"..", b"a" * 251, b"a" * 252, b"a" * 255, b"a" * 256, b"a" * 1024]),
)
segments = st.one_of(_texts, posix_names.map(lambda name: readings(name)[-1].segment if readings(name) else b"a"))


def _means(name: Name, other: Name) -> bool:
    """Both are the same name, where one may know a digest only."""
    known = other if other.digest is None else name
    return name == other or (name.shadowed == other.shadowed and digest(known.segment) in (name.digest, other.digest))


@given(posix_names)
@example(b"_-_k..")
@example(b"_-_oa")
@example(b"_-_d" + b"0" * 32)
def test_what_creating_a_name_makes_is_shown_under_that_name(posix: bytes) -> None:
    found = readings(posix)
    if found:
        assert spelled(found[-1]) == posix
        assert all(spelled(name) == posix for name in found)
        found[-1].segment.decode()
    else:
        assert posix in (b".versions", b".snapshot")


@given(segments, st.booleans())
def test_each_segment_is_shown_as_a_name_that_leads_back_to_it(segment: bytes, shadowed: bool) -> None:
    name = Name(segment, shadowed and segment != b"")
    posix = spelled(name)
    assert 0 < len(posix) <= NAME_MAX
    assert posix not in (b".", b"..", b".versions", b".snapshot")
    assert b"/" not in posix
    assert any(_means(reading, name) for reading in readings(posix))


@given(segments, segments)
def test_two_segments_are_never_shown_alike(one: bytes, other: bytes) -> None:
    if one != other and not _stands_for_another(one) and not _stands_for_another(other):
        assert spelled(Name(one)) != spelled(Name(other))


def _stands_for_another(segment: bytes) -> bool:
    """The S3 spelling of a POSIX name that means something else where that exists."""
    return len(readings(spelled(Name(segment)))) > 1


@given(segments.filter(bool))
def test_an_object_beside_a_directory_has_a_name_of_its_own(segment: bytes) -> None:
    assert spelled(Name(segment, shadowed=True)) == shadow(segment) != spelled(Name(segment))


@pytest.mark.parametrize("posix", [b"a", b"a b", "ä".encode(), b".hidden", b"-rf", b"a" * 255, b"x=3D", b"_-"])
def test_ordinary_names_are_themselves(posix: bytes) -> None:
    assert readings(posix) == (Name(posix),)


@pytest.mark.parametrize(
    ("segment", "posix"),
    [
        (b"", b"_-_k"),
        (b"..", b"_-_k.."),
        (b".versions", b"_-_k.versions"),
        (b"_-_kx", b"_-_k_-_kx"),
        (b"_-_bplain", b"_-_k_-_bplain"),
        (b"_-_b=ff", b"_-_k_-_b=ff"),
        (b"_-_bcaf=E9", b"caf\xe9"),
    ],
)
def test_spellings_stay_as_they_were_written_down(segment: bytes, posix: bytes) -> None:
    assert spelled(Name(segment)) == posix
    assert readings(posix) == (Name(segment),)


def test_names_that_the_mount_keeps_mean_nothing() -> None:
    assert readings(b".versions") == readings(b".snapshot") == ()
