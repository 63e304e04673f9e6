"""Objects below a prefix in somebody's S3, in which the cold tier keeps its volumes. All of it blocks: use threads."""

import base64
import hashlib
import io
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from stratumfs.errors import ConfigError, DeviceFailed, ShardMissing
from stratumfs.ids import MIB, Buffer
from stratumfs.limits import (
    LIST_MAX,
    REMOTE_ATTEMPTS,
    REMOTE_CONNECT_S,
    REMOTE_PAUSE_S,
    REMOTE_PAUSE_S_MAX,
    REMOTE_RATE_MIN,
    REMOTE_SILENCE_S,
    REMOTE_VERB_S,
)
from stratumfs.shards.expiry import Expiries, Expiry
from stratumfs.shards.s3 import (
    Keys,
    Meaning,
    code_of,
    device_error,
    make_client,
    meaning_of,
    nonsense,
    retry_after_s,
    s3_errors,
)

Result = TypeVar("Result")
_MD5 = re.compile(r"[0-9a-f]{32}")
_KMS = "aws:kms"


class Listed(NamedTuple):
    """An object by the word of a listing. put_s: when it was put there, and age_s: how long ago, both by the clock
    of the service; 0.0 both if it does not say."""

    name: str
    size: int
    age_s: float
    put_s: float


class Remote(Protocol):
    """Objects by name. All verbs block, end in bounded time, may run twice, and may be called by several threads.

    Errors are final, retries are behind them:

        ShardMissing   there is no object of that name
        DeviceFull     the service takes no more
        DeviceFailed   anything else that the service answers, or that it does not; ``device`` is the label

    Neither bytes nor listings are vouched for. What a service, or the way to it, has changed in bytes of the right
    number is not noticed by `get`, nor a name that `names` leaves out: who asks must be able to check them.
    """

    label: str

    def put(self, name: str, source: Buffer) -> None:
        """Durable and verified on return; replaces what is there, wholly or not at all. After an error: either."""
        ...

    def get(self, name: str, offset: int, length: int) -> bytes:
        """Exactly so many bytes; that the object has no more is DeviceFailed."""
        ...

    def size(self, name: str) -> int: ...

    def delete(self, name: str) -> None:
        """It is not there on return; that it never was is no error."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """All that begin with *prefix*, in no order. Raises while it goes on, too."""
        ...

    def listed(self, prefix: str) -> Iterator[Listed]:
        """The same, with what a listing says of each."""
        ...

    def close(self) -> None:
        """End what is under way; nothing can be asked any more."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service is waited for.

    silence_s  between two pieces of an answer, or of what is sent
    verb_s     for a whole verb with all its attempts, and besides the time that its bytes take at *rate_min* (bytes/s)
    pause_s    before the second attempt, at most; twice as long before each further one, up to *pause_s_max*
    """

    connect_s: float = REMOTE_CONNECT_S
    silence_s: float = REMOTE_SILENCE_S
    verb_s: float = REMOTE_VERB_S
    rate_min: float = REMOTE_RATE_MIN
    attempts: int = REMOTE_ATTEMPTS
    pause_s: float = REMOTE_PAUSE_S
    pause_s_max: float = REMOTE_PAUSE_S_MAX


class _Wrong(ValueError):
    """An answer that cannot be true; another one may be."""


class S3Remote:
    """A `Remote` below a prefix of a bucket, which is there.

    to         s3://BUCKET/PREFIX
    keys       gives the credentials, and is asked anew when they are refused; None: what boto3 finds and renews
    page       names that are asked for at once
    read_back  compare what was put with what the service gives; else it is believed that it has the MD5

    Botocore retries nothing here: it knows neither truncated bodies nor a bound for all attempts together.
    """

    def __init__(
        self,
        to: str,
        endpoint: str | None,
        keys: Callable[[], Keys | None],
        *,
        read_back: bool = True,
        patience: Patience | None = None,
        page: int = LIST_MAX,
    ) -> None:
        self.label = to
        self._bucket, _, prefix = to.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint, self._ask_keys, self._read_back = endpoint, keys, read_back
        self._patience, self._page = patience or Patience(), page
        self._expiries = Expiries()
        self._lock = threading.Lock()  # guards the two below
        self._client: Any = None
        self._keys: Keys | None = None

    def put(self, name: str, source: Buffer) -> None:
        view = memoryview(source).cast("B")
        digest = hashlib.md5(view, usedforsecurity=False)
        sent = base64.b64encode(digest.digest()).decode()

        def attempt(client: Any) -> None:
            at = self._at(name)
            try:
                answer = client.put_object(**at, Body=_Reader(view), ContentLength=len(view), ContentMD5=sent)
                _check_etag(answer, digest.hexdigest())
                answer = client.head_object(**at)
                _check_length(answer, len(view))
                _check_etag(answer, digest.hexdigest())
                if self._read_back:
                    _compare(client.get_object(**at), view)
            except _troubles() as error:
                if meaning_of(error) is Meaning.MISSING:
                    raise _Wrong("it was sent, and is not there") from error
                raise

        self._call(f"put {name}", 2 * len(view), attempt)

    def get(self, name: str, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        last = offset + length - 1

        def attempt(client: Any) -> bytes:
            try:
                answer = client.get_object(**self._at(name), Range=f"bytes={offset}-{last}")
            except _troubles() as error:
                self._look_again(client, name, error)
                raise
            with closing(answer["Body"]) as body:
                range_, wanted = str(answer.get("ContentRange", "")), f"bytes {offset}-{last}/"
                if not range_.startswith(wanted):
                    raise _Wrong(f"asked for {wanted} and was given {range_!r}")
                _check_length(answer, length)
                return _read(body, length)

        return self._call(f"get {name}", length, attempt)

    def size(self, name: str) -> int:
        def attempt(client: Any) -> int:
            try:
                answer = client.head_object(**self._at(name))
            except _troubles() as error:
                self._look_again(client, name, error)
                raise
            if not {"ContentLength", "ETag"} <= answer.keys():
                raise _Wrong("that is no object")
            return int(answer["ContentLength"])

        return self._call(f"size of {name}", 0, attempt)

    def delete(self, name: str) -> None:
        def attempt(client: Any) -> None:
            for verb in (client.delete_object, client.head_object):
                try:
                    verb(**self._at(name))
                except _troubles() as error:
                    if meaning_of(error) is not Meaning.MISSING:
                        raise
                    gone = True
                else:
                    gone = False
            if not gone:
                raise _Wrong("it was deleted, and is there")

        self._call(f"delete {name}", 0, attempt)

    def names(self, prefix: str) -> Iterator[str]:
        return (each.name for each in self.listed(prefix))

    def listed(self, prefix: str) -> Iterator[Listed]:
        begin = self._prefix + prefix
        tokens: set[str] = set()
        after: dict[str, str] = {}

        def attempt(client: Any) -> tuple[list[Listed], str | None]:
            page = client.list_objects_v2(Bucket=self._bucket, Prefix=begin, MaxKeys=self._page, **after)
            if "IsTruncated" not in page:
                raise _Wrong("it is no listing")
            now = _time_there(page)
            found = [_listed(each, now) for each in page.get("Contents", ())]
            if not all(each.name.startswith(begin) for each in found):
                raise _Wrong(f"it has keys that do not begin with {begin}")
            token = str(page.get("NextContinuationToken", "")) if page["IsTruncated"] else None
            if token == "" or token in tokens:
                raise _Wrong("it does not come to an end")
            return found, token

        while True:
            found, token = self._call(f"list {prefix}", 0, attempt)
            yield from (each._replace(name=each.name.removeprefix(self._prefix)) for each in found)
            if token is None:
                return
            tokens.add(token)
            after["ContinuationToken"] = token

    def close(self) -> None:
        self._expiries.close()

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _look_again(self, client: Any, name: str, error: Exception) -> None:
        """What is said to be missing is asked for once more, for much is given up on that word, and an answer to HEAD
        does not say whether it is the bucket that is missing. Raises: ShardMissing; _Wrong; what that meets."""
        if meaning_of(error) is not Meaning.MISSING:
            return
        try:
            client.get_object(**self._at(name), Range="bytes=0-0")["Body"].close()
        except _troubles() as again:
            if meaning_of(again) is Meaning.MISSING:
                raise ShardMissing(f"{self.label} has no {name}") from again
            if code_of(again) != ("InvalidRange", 416):  # it is there, and empty
                raise
        raise _Wrong("it was said to be missing, and is there") from error

    def _call(self, what: str, size: int, attempt: Callable[[Any], Result]) -> Result:
        """Run *attempt* until it succeeds, may not be tried again, or its time is over."""
        allowed_s = self._patience.verb_s + size / self._patience.rate_min
        with self._expiries.within(allowed_s) as expiry:
            tried, renewed = 0, False
            while True:
                client = self._connected(what)
                try:
                    return attempt(client)
                except _troubles() as error:
                    expiry.watch(None)
                    tried += 1
                    meaning = meaning_of(error)
                    if meaning is Meaning.DENIED and not renewed and self._renew(client):
                        renewed = True
                        continue
                    if (
                        meaning is Meaning.PASSING
                        and tried < self._patience.attempts
                        and self._pause(expiry, tried, error)
                    ):
                        continue
                    times = f" ({tried} attempts)" if tried > 1 else ""
                    late = f", {allowed_s:.0f} s are over" if not expiry.left_s else ""
                    raise device_error(error, f"{self.label}: {what}{late}{times}", self.label) from error

    def _pause(self, expiry: Expiry, tried: int, error: Exception) -> bool:
        """Wait before another attempt; False if there is no time for one.

        The whole of the pause is random, so that many who fail together do not come back together.
        Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
        """
        most = min(self._patience.pause_s_max, self._patience.pause_s * 2 ** (tried - 1))
        pause = retry_after_s(error) + random.uniform(0, most)  # noqa: S311
        return pause < expiry.left_s and not expiry.ended.wait(pause)

    def _connected(self, what: str) -> Any:
        with self._lock:
            if self._client is None:
                try:
                    self._keys = self._ask_keys()
                    self._client = self._new_client(self._keys)
                except ConfigError as error:
                    raise DeviceFailed(f"{self.label}: {what}: {error}", self.label) from error
            return self._client

    def _renew(self, refused: Any) -> bool:
        """Whether there are other credentials by now than those of the client that was refused."""
        with self._lock:
            if self._client is not refused:
                return True
            try:
                keys = self._ask_keys()
                if keys is not None and keys == self._keys:
                    return False
                self._client, self._keys = self._new_client(keys), keys
            except ConfigError:
                return False
            return True

    def _new_client(self, keys: Keys | None) -> Any:
        waits = self._patience
        client = make_client(
            self.label,
            self._endpoint,
            keys,
            attempts=1,
            connect_s=waits.connect_s,
            silence_s=waits.silence_s,
            sign_bodies=False,
        )
        self._expiries.guard(client)
        return client


class _Reader(io.RawIOBase):
    """Bytes as a file, without a copy of all of them. A file, for those botocore sends only once the service has said
    that it takes them (100 Continue): a refusal is heard instead of a reset."""

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view, self._place = view, 0

    def read(self, size: int = -1) -> bytes:
        """More than is asked for: urllib3 asks for 16 KiB at a time, and each time waits for Python's lock."""
        piece = bytes(self._view[self._place : self._place + (max(size, MIB) if size >= 0 else len(self._view))])
        self._place += len(piece)
        return piece

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._view)}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        piece = self._view[self._place : self._place + len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


def _troubles() -> tuple[type[Exception], ...]:
    return (*s3_errors(), *nonsense())


def _time_there(answer: Any) -> datetime:
    """What time it is by the clock of the service; ours if it does not say."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)


def _listed(said: Any, now: datetime) -> Listed:
    """One that is younger than it says does no harm: an age is a reason to remove something."""
    try:
        put = said["LastModified"]
        age_s, put_s = max(0.0, (now - put).total_seconds()), float(put.timestamp())
    except (AttributeError, KeyError, TypeError):
        age_s = put_s = 0.0
    return Listed(str(said["Key"]), int(said.get("Size", 0)), age_s, put_s)


def _check_length(answer: Any, length: int) -> None:
    found = answer.get("ContentLength")
    if found != length:
        raise _Wrong(f"{length} bytes were to be there, and {found or 'no'} are said to be")


def _check_etag(answer: Any, md5: str) -> None:
    """An ETag that looks like an MD5 is one, but where the service encrypts with keys of a KMS."""
    etag = str(answer.get("ETag", "")).strip('"')
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith(_KMS)
    if etag != md5 and _MD5.fullmatch(etag) and not encrypted:
        raise _Wrong(f"the MD5 is {md5}, and the service has {etag}")


def _read(body: Any, length: int) -> bytes:
    """All of a body, which has so many bytes."""
    data = bytes(body.read(length + 1))
    if len(data) != length or body.read(1):
        raise _Wrong(f"{length} bytes were announced, and {len(data)} came")
    return data


def _compare(answer: Any, view: memoryview) -> None:
    """What is read back must be *view*."""
    place = 0
    with closing(answer["Body"]) as body:
        while data := body.read(MIB):
            # Not beside the view itself: that is compared element by element, thirty times as slowly, all threads held.
            if data != bytes(view[place : place + len(data)]):
                raise _Wrong(f"what was read back differs behind byte {place}")
            place += len(data)
    if place != len(view):
        raise _Wrong(f"{place} of {len(view)} bytes were read back")
