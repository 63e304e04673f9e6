"""Writers at both doors of a store that is about to be killed, and what they were promised.

Each worker has names of its own, so that the order of what happens to a name is known. Before a call it says what the
name may hold from now on, after the call what it must hold: a digest of the bytes, or GONE.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

GONE = ""
NAMES = 30
"""Of each worker."""
SIZES = (0, 10, 4000, 16_384, 16_385, 100_000, 1_500_000)
_PART = 5 << 20


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


@dataclass
class Promises:
    """What each ``bucket/name`` may hold. Written by one worker each, read when no worker runs."""

    may: dict[str, set[str]] = field(default_factory=dict)

    def begin(self, name: str, *outcomes: str) -> None:
        """A call starts that may leave any of these, or what was there."""
        self.may.setdefault(name, {GONE}).update(outcomes)

    def settle(self, name: str, outcome: str) -> None:
        """It was acknowledged: this it is."""
        self.may[name] = {outcome}


class Worker:
    """Calls one operation after another until ``stop`` is set or the store is gone.

    acknowledged  so many calls; last is the time of the last one
    begun         when the call that is under way was made; 0.0 between calls
    error         what ended it before it was told to
    """

    door = ""

    def __init__(self, promises: Promises, stop: threading.Event, seed: str, number: int) -> None:
        self.promises, self.stop = promises, stop
        self.thread = threading.Thread(target=self.run, name=f"{self.door}-{number}", daemon=True)
        self.rng = random.Random(seed)  # noqa: S311 - repeatable is the point
        self.acknowledged, self.last, self.begun = 0, 0.0, 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.begun = time.monotonic()
                self.step()
                self.acknowledged, self.last, self.begun = self.acknowledged + 1, time.monotonic(), 0.0
        except (OSError, BotoCoreError, ClientError) as error:
            if not self.stop.is_set():
                self.error = error
        finally:
            self.close()

    def step(self) -> None:
        """One operation, to its acknowledgement."""
        operations = self.operations()
        self.rng.choices([call for call, _ in operations], [weight for _, weight in operations])[0]()

    def operations(self) -> Sequence[tuple[Callable[[], None], int]]:
        """What it can do, and how often."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open."""

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice(SIZES))

    def one_of(self) -> str:
        return f"n{self.rng.randrange(NAMES)}"


class S3Worker(Worker):
    door = "s3"

    def __init__(
        self, promises: Promises, stop: threading.Event, seed: str, number: int, client: Any, bucket: str
    ) -> None:
        super().__init__(promises, stop, seed, number)
        self._client, self._bucket, self._prefix = client, bucket, f"s{number}"

    def operations(self) -> Sequence[tuple[Callable[[], None], int]]:
        return (
            (self._put, 60),
            (self._delete, 10),
            (self._delete_many, 3),
            (self._copy, 10),
            (self._upload, 5),
        )

    def _key(self) -> tuple[str, str]:
        key = f"{self._prefix}/{self.one_of()}"
        return key, f"{self._bucket}/{key}"

    def _put(self) -> None:
        (key, name), data = self._key(), self.data()
        self.promises.begin(name, digest(data))
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        self.promises.settle(name, digest(data))

    def _delete(self) -> None:
        key, name = self._key()
        self.promises.begin(name, GONE)
        self._client.delete_object(Bucket=self._bucket, Key=key)
        self.promises.settle(name, GONE)

    def _delete_many(self) -> None:
        pairs = dict(self._key() for _ in range(3))
        for name in pairs.values():
            self.promises.begin(name, GONE)
        answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in pairs]})
        for deleted in answer["Deleted"]:
            self.promises.settle(pairs[deleted["Key"]], GONE)

    def _copy(self) -> None:
        (source, old), (key, name) = self._key(), self._key()
        (held,) = self.promises.may.get(old, {GONE})
        if held == GONE or old == name:
            return
        self.promises.begin(name, held)
        self._client.copy_object(Bucket=self._bucket, Key=key, CopySource={"Bucket": self._bucket, "Key": source})
        self.promises.settle(name, held)

    def _upload(self) -> None:
        key, name = self._key()
        parts = [self.data()]
        if self.rng.random() < 0.5:
            parts.insert(0, self.rng.randbytes(_PART))
        place = {"Bucket": self._bucket, "Key": key}
        begun = self._client.create_multipart_upload(**place)
        if "UploadId" not in begun:  # boto3 takes an answer that was cut behind its head for an empty one
            raise ConnectionResetError("the answer was cut")
        upload = {**place, "UploadId": begun["UploadId"]}
        done = []
        for number, part in enumerate(parts, 1):
            answer = self._client.upload_part(**upload, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
        whole = digest(b"".join(parts))
        self.promises.begin(name, whole)
        self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
        self.promises.settle(name, whole)


class MountWorker(Worker):
    """Everything it does ends with what POSIX lets a program rely on: a close, an fsync, of the directory too."""

    door = "mount"

    def __init__(self, promises: Promises, stop: threading.Event, seed: str, number: int, bucket: Path) -> None:
        super().__init__(promises, stop, seed, number)
        self._folder = bucket / f"m{number}"
        self.prefix = f"{bucket.name}/m{number}/"
        self._known: dict[str, bytes] = {}
        self._open: dict[str, int] = {}

    def know(self, held: Mapping[str, bytes]) -> None:
        """What its files hold, by ``bucket/name``, as it was found after the last kill."""
        for name, data in held.items():
            if name.startswith(self.prefix):
                self._known[name.removeprefix(self.prefix)] = data

    def operations(self) -> Sequence[tuple[Callable[[], None], int]]:
        return (
            (self._write, 40),
            (self._append, 15),
            (self._write_within, 25),
            (self._replace, 15),
            (self._unlink, 10),
        )

    def step(self) -> None:
        self._folder.mkdir(exist_ok=True)
        super().step()

    def close(self) -> None:
        for fd in self._open.values():
            with suppress(OSError):
                os.close(fd)
        self._open.clear()

    def _write(self) -> None:
        """Anew, by whoever closes it."""
        name, data = self.one_of(), self.data()
        self._forget(name)
        self.promises.begin(self._named(name), digest(b""), digest(data))
        with open(self._folder / name, "wb", buffering=0) as file:
            file.write(data)
        self._settle(name, data)

    def _append(self) -> None:
        name = self.one_of()
        if (old := self._known.get(name)) is None:
            return
        self._forget(name)
        data = old + (self.data() or b"!")
        self.promises.begin(self._named(name), digest(data))
        with open(self._folder / name, "ab", buffering=0) as file:
            file.write(data[len(old) :])
        self._settle(name, data)

    def _write_within(self) -> None:
        """In a file that stays open, made safe by fsync."""
        name = self.one_of()
        if (old := self._known.get(name)) is None:
            return
        if name not in self._open:
            self._open[name] = os.open(self._folder / name, os.O_RDWR)
        piece = self.data() or b"?"
        offset = self.rng.randrange(len(old) + 5000)
        data = old.ljust(offset, b"\0")
        data = data[:offset] + piece + data[offset + len(piece) :]
        self.promises.begin(self._named(name), digest(data))
        os.pwrite(self._open[name], piece, offset)
        os.fsync(self._open[name])
        self._settle(name, data)

    def _replace(self) -> None:
        """As editors save: a new file, synced, renamed over the old one, its directory synced."""
        name, data = self.one_of(), self.data()
        self._forget(name)
        new = f"{name}.new"
        self.promises.begin(self._named(new), digest(b""), digest(data))
        with open(self._folder / new, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
            self._settle(new, data)
            self.promises.begin(self._named(name), digest(data))
            self.promises.begin(self._named(new), GONE)
            os.rename(self._folder / new, self._folder / name)
        self._sync_folder()
        self._settle(new, None)
        self._settle(name, data)

    def _unlink(self) -> None:
        name = self.one_of()
        if name not in self._known:
            return
        self._forget(name)
        self.promises.begin(self._named(name), GONE)
        os.unlink(self._folder / name)
        self._sync_folder()
        self._settle(name, None)

    def _named(self, name: str) -> str:
        return self.prefix + name

    def _forget(self, name: str) -> None:
        if (fd := self._open.pop(name, None)) is not None:
            os.close(fd)

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _settle(self, name: str, data: bytes | None) -> None:
        self.promises.settle(self._named(name), GONE if data is None else digest(data))
        if data is None:
            self._known.pop(name, None)
        else:
            self._known[name] = data
