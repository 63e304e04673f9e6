"""Names both ways: what one door can be asked to store the other one lists, reads and deletes; nothing collides."""

import itertools
import os
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.doors import Doors
from tests.model.s3 import Got, Reader

pytestmark = [pytest.mark.slow, pytest.mark.mount]

_SEGMENTS = (
    "a", "A", "b", "", ".", "..", "...", " ", "  ", "a ", " a", "~", "*", "?", "#", "&", "+", "%", "%2F", "%2f", "%00",
    "%zz", ";", ":", "@", "=", "$", ",", "!", "'", '"', "(", ")", "[", "]", "{", "}", "|", "\\", "^", "`", "<", ">",
    "<a>", "&amp;", "]]>", "-", "--", "_", "_-_", "_-_a", "_-_k", "_-_k..", "_-_o", "_-_oa", "_-_b", "_-_b=FF",
    "_-_b_-_x", "_-_d" + "0" * 32, "=FF", ".versions", ".snapshot", ".fuse_hidden0000", ".nfs0001", "CON", "nul", "a.",
    "a..b", "l" * 254, "l" * 255, "l" * 256, "l" * 300, "ü", "ß", "ﬁ", "İ", "ı", "日本語", "한국어", "עברית", "العربية",
    "🙂", "👩\u200d👩\u200d👧", "\ufeff", "\ufffd", "\u200b", "\u202e", "\u2028", "\u0085", "\u00a0", "\ue000",
    "\U0010fffd", "\ufffe", "\uffff",
)  # fmt: skip
_CONTROL = [chr(code) for code in (*range(1, 32), 127)]


def _keys() -> Iterator[str]:
    yield from (segment for segment in _SEGMENTS if segment)
    yield from (f"c{character}d" for character in _CONTROL)
    yield from (f"{segment}/x" for segment in _SEGMENTS)
    yield from (f"in/{segment}" for segment in _SEGMENTS if segment)
    for one, other in itertools.product(("", ".", "..", "_-_k", "z"), repeat=2):
        yield f"two/{one}/{other}/x"
    # An object beside a directory of its name, with and without a key of the directory's own.
    yield from (
        "a/a",
        "beside",
        "beside/",
        "beside/x",
        "beside//",
        "beside//x",
        "beside/.",
        "own/",
        "own/x/",
        "/",
        "//",
    )
    for text in ("é", "Å", "ñandú", "ﾊﾟ"):
        yield from (f"form/{unicodedata.normalize(form, text)}" for form in ("NFC", "NFD", "NFKC", "NFKD"))
    yield "k" * 1024
    yield "d/" * 511 + "ef"
    yield ("m" * 255 + "/") * 4
    yield "ü" * 512


KEYS = sorted({key.encode() for key in _keys()})
POSIX_NAMES = sorted(
    {
        *(bytes([0x80 + number]) for number in range(0, 128, 8)),
        *(b"n" + bytes([number]) + b"m" for number in range(1, 256) if number != ord("/") and number % 3 == 0),
        *(name.encode() for name in _SEGMENTS if 0 < len(name.encode()) <= 255 and name not in (".", "..")),
        b"\xff" * 255,
        b"\xc3",
        b"\xed\xa0\x80",  # half of a surrogate pair
        b"\xf5\x80\x80\x80",
        b"x" * 255,
        b"new\nline",
        b"_-_b=C3",
        b"_-_b=c3",
    }
    - {b".versions", b".snapshot", b"_-_k"}
)
"""Without those that the mount keeps for itself, and the one that stands for the empty segment: a directory's."""


class Session(Reader):
    """It writes, too."""

    def put(self, bucket: str, key: bytes, data: bytes) -> Got:
        return self._ask("PUT", f"/{bucket}/{quote(key, safe='/~')}", data)

    def delete(self, bucket: str, key: bytes) -> Got:
        return self.get(bucket, key, "DELETE")


@pytest.fixture
def session(shared_doors: Doors) -> Iterator[Session]:
    with closing(Session(shared_doors)) as found:
        yield found


def content(name: bytes) -> bytes:
    return b"of " + name


def files(folder: bytes) -> dict[bytes, bytes]:
    """What each file below holds, by its path."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                found[os.path.join(parent, name)] = file.read()
    return found


def test_there_are_enough_of_them() -> None:
    assert len(KEYS) >= 200
    assert len(POSIX_NAMES) >= 100
    assert max(map(len, KEYS)) == 1024


def test_keys_of_s3_are_files_of_the_mount(shared_doors: Doors, session: Session) -> None:
    bucket = "keys"
    session.put(bucket, b"", b"")
    for key in KEYS:
        got = session.put(bucket, key, b"" if key.endswith(b"/") else content(key))
        assert got.status == 200, (key, got)
    listed, _ = session.list(bucket, page=100)
    assert list(listed) == KEYS
    plain = [key for key in KEYS if not key.endswith(b"/")]
    for key in KEYS:
        assert session.get(bucket, key).data == (b"" if key.endswith(b"/") else content(key)), key
    folder = os.fsencode(shared_doors.mount / bucket)
    found = files(folder)
    assert sorted(found.values()) == sorted(map(content, plain))
    # Half of them are deleted by each door.
    for path in sorted(found)[::2]:
        os.unlink(path)
    gone = {found[path] for path in sorted(found)[::2]}
    for key in plain:
        assert session.get(bucket, key).status == (404 if content(key) in gone else 200), key
    for key in KEYS:
        assert session.delete(bucket, key).status == 204, key
    assert files(folder) == {}
    for parent, names, _ in os.walk(folder, topdown=False):
        for name in names:
            os.rmdir(os.path.join(parent, name))
    assert session.list(bucket)[0] == {}
    os.rmdir(folder)


def test_names_of_the_mount_are_keys_of_s3(shared_doors: Doors, session: Session) -> None:
    bucket = "posix"
    folder = os.fsencode(shared_doors.mount / bucket)
    os.mkdir(folder)
    for name in POSIX_NAMES:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content(name))
    os.mkdir(os.path.join(folder, b"below"))
    for name in POSIX_NAMES:
        os.mkdir(os.path.join(folder, b"below", name))
        with open(os.path.join(folder, b"below", name, name), "wb") as file:
            file.write(content(name))
    assert sorted(os.listdir(folder)) == sorted([*POSIX_NAMES, b"below"])
    assert sorted(os.listdir(os.path.join(folder, b"below"))) == POSIX_NAMES
    listed, _ = session.list(bucket, page=50)
    assert list(listed) == sorted(listed)
    objects = [key for key in listed if not key.endswith(b"/")]
    held = {key: session.get(bucket, key).data for key in objects}
    assert sorted(held.values()) == sorted(map(content, [*POSIX_NAMES, *POSIX_NAMES]))
    for key in listed:
        assert session.delete(bucket, key).status == 204, key
    assert os.listdir(folder) == []
    os.rmdir(folder)


def test_what_is_no_key_is_refused(shared_doors: Doors, session: Session) -> None:
    bucket = "refused"
    (shared_doors.mount / bucket).mkdir()
    for target, code in (
        ("k" * 1025, b"KeyTooLongError"),
        (quote("ü" * 513), b"KeyTooLongError"),
        ("a%00b", b""),
        ("a%FFb", b""),
        ("%ED%A0%80", b""),
        ("%C0%AF", b""),
        ("a%2", b""),
    ):
        got = session._ask("PUT", f"/{bucket}/{target}", b"x")
        assert got.status == 400, (target, got)
        assert code in got.data
        session.close()  # behind some of them the connection ends
    assert session.list(bucket)[0] == {}
    assert list((shared_doors.mount / bucket).iterdir()) == []


def test_pages_neither_skip_nor_repeat_a_key_while_others_write(shared_doors: Doors, session: Session) -> None:
    bucket = "pages"
    folder = shared_doors.mount / bucket
    folder.mkdir()
    stays = [f"{letter}/{number:03}".encode() for letter in "adm" for number in range(60)]
    for key in stays:
        assert session.put(bucket, key, b"").status == 200
    stop = threading.Event()
    failures: list[BaseException] = []

    def by_s3() -> None:
        with closing(Session(shared_doors)) as own:
            for number in itertools.count():
                key = f"{'abdmz'[number % 5]}/{number * 37 % 60:03}-{number % 7}".encode()
                assert own.put(bucket, key, b"").status == 200
                own.delete(
                    bucket, f"{'abdmz'[(number - 9) % 5]}/{(number - 9) * 37 % 60:03}-{(number - 9) % 7}".encode()
                )
                if stop.is_set():
                    return

    def by_mount() -> None:
        for number in itertools.count():
            path = folder / f"d-{number % 11}"
            path.mkdir(exist_ok=True)
            (path / "x").write_bytes(b"")
            (path / "x").rename(folder / "m" / f"{number % 60:03}x")
            (folder / "m" / f"{number % 60:03}x").unlink()
            path.rmdir()
            if stop.is_set():
                return

    def guarded(step: object) -> None:
        try:
            step()  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(step,)) for step in (by_s3, by_mount)]
    for each in writers:
        each.start()
    try:
        seen_others = 0
        for page in (1, 2, 7, 7, 50, 1000) * 2:
            listed, _ = session.list(bucket, page=page)  # it asserts that none is repeated
            assert list(listed) == sorted(listed)
            assert [key for key in listed if key in stays] == stays
            seen_others += len(listed) - len(stays)
            _, prefixes = session.list(bucket, delimiter=b"/", page=page)
            assert prefixes == sorted(set(prefixes))
            assert {b"a/", b"d/", b"m/"} <= set(prefixes)
    finally:
        stop.set()
        for each in writers:
            each.join(60)
    assert failures == []
    assert seen_others > 0
