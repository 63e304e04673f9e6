"""What the reference knows of a file or a directory, and what it can only bound: times, ETags and inode numbers.

Of those it says what they may be. The first look at the real thing pins the value; from then on it must not change
until an operation says that it may.
"""

import hashlib
from dataclasses import dataclass, field

Span = tuple[int, int]
"""Nanoseconds, both ends included."""

BUCKET_DIRECTORY_MODE = 0o755
OBJECT_MODE = 0o644
DEFAULT_TYPE = "binary/octet-stream"
OPAQUE = "opaque"
"""Stands for any ETag in the shape of a multipart one, or the MD5 of the bytes."""


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Time:
    """One of some spans; exact once it was seen."""

    spans: tuple[Span, ...]

    def see(self, value_ns: int, what: str) -> None:
        assert any(low <= value_ns <= high for low, high in self.spans), f"{what}: {value_ns} is not in {self.spans}"
        self.spans = ((value_ns, value_ns),)

    def see_second(self, second: int, what: str) -> None:
        """The same of a time that a door shows in whole seconds."""
        spans = [(low // 10**9, high // 10**9) for low, high in self.spans]
        assert any(low <= second <= high for low, high in spans), f"{what}: second {second} is not in {spans}"
        self.spans = tuple(
            (max(low, second * 10**9), min(high, second * 10**9 + 10**9 - 1))
            for low, high in self.spans
            if low // 10**9 <= second <= high // 10**9
        )

    def maybe(self, now: Span) -> "Time":
        """It may have been set anew, or not."""
        return Time((*self.spans, now))


@dataclass(frozen=True, slots=True)
class Spec:
    """What S3's headers say of an object."""

    content_type: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    cache_control: str | None = None
    storage_class: str = "STANDARD"


@dataclass(slots=True)
class Content:
    """Bytes as S3 sees them, with what it says of them."""

    data: bytes
    modified: Time
    etag: str = OPAQUE
    spec: Spec = Spec()


@dataclass(eq=False, slots=True)
class File:
    """A regular file, a symbolic link or a fifo: an inode, under one key or several.

    data     the bytes as the mount shows them; ``content.data`` are those of the last flush
    pending  written since
    target   of a symbolic link
    """

    kind: str
    mode: int
    mtime: Time
    content: Content
    data: bytes = b""
    pending: bool = False
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    ino: int | None = None

    @property
    def is_object(self) -> bool:
        return self.kind == "file"


@dataclass(eq=False, slots=True)
class Directory:
    """explicit: a key of its own, so S3 lists it; else it is there because keys lie below it."""

    explicit: bool
    mode: int
    mtime: Time
    content: Content
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    ino: int | None = None
    kind: str = "directory"

    @property
    def is_object(self) -> bool:
        return self.explicit


Node = File | Directory
