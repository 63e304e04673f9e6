"""Where backups lie: a folder, or a bucket of any S3 service. All of it blocks.

Both show an object whole or not at all, so that what is there can be relied upon.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from stratumfs.catalog.connection import fsync_path
from stratumfs.config import check_target
from stratumfs.errors import DeviceFailed, of_device
from stratumfs.limits import REMOTE_ATTEMPTS
from stratumfs.shards.s3 import device_error, keys_from, make_client, s3_errors

_UNFINISHED = ".new"
_PIECE = 1 << 20


class Target(Protocol):
    """Objects by names with slashes. Its methods raise DeviceFull, DeviceFailed that names it; all may run twice."""

    def put(self, name: str, source: IO[bytes]) -> None:
        """Durable on return; replaces what is there."""
        ...

    def names(self, prefix: str) -> list[str]:
        """All that begin with *prefix*, sorted."""
        ...

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        """Hand all bytes to *write*, in order."""
        ...

    def delete(self, name: str) -> None:
        """That it is not there is no error."""
        ...


class FolderTarget:
    """Below a folder, which is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, source: IO[bytes]) -> None:
        path = self._folder / name
        self._demand()
        with self._failing():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}{_UNFINISHED}")
            with open(temporary, "wb", opener=_private) as file:
                shutil.copyfileobj(source, file, _PIECE)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            for folder in path.parents[: len(Path(name).parents)]:
                fsync_path(folder)

    def names(self, prefix: str) -> list[str]:
        self._demand()
        with self._failing():
            found = [path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()]
        return sorted(name for name in found if name.startswith(prefix) and not name.endswith(_UNFINISHED))

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        with self._failing(), (self._folder / name).open("rb") as file:
            while data := file.read(_PIECE):
                write(data)

    def delete(self, name: str) -> None:
        with self._failing():
            (self._folder / name).unlink(missing_ok=True)

    def _demand(self) -> None:
        """One that is not mounted must not look like one that is empty."""
        if not self._folder.is_dir():
            raise DeviceFailed(f"{self._folder} is not there: a backup does not make it", str(self._folder))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the backup in {self._folder}: {error.strerror}"
            raise of_device(error, message, str(self._folder)) from error


class S3Target:
    """Below a prefix of a bucket, which is there."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def put(self, name: str, source: IO[bytes]) -> None:
        with self._failing():
            self._client.upload_fileobj(source, self._bucket, self._prefix + name)

    def names(self, prefix: str) -> list[str]:
        found: list[str] = []
        with self._failing():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                found += [each["Key"].removeprefix(self._prefix) for each in page.get("Contents", ())]
        return sorted(found)

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        with self._failing():
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"]
            for data in body.iter_chunks(_PIECE):
                write(data)

    def delete(self, name: str) -> None:
        with self._failing():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except s3_errors() as error:
            label = f"s3://{self._bucket}/{self._prefix}"
            raise device_error(error, f"the backup in {label}", label) from error


def open_target(to: str, endpoint: str | None = None, credentials: str | None = None) -> Target:
    """A folder by its absolute path, or s3://BUCKET/PREFIX. Raises: ConfigError."""
    check_target(to)
    if to.startswith("/"):
        return FolderTarget(Path(to))
    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    keys = keys_from(Path(credentials), "backup.credentials") if credentials is not None else None
    return S3Target(make_client(f"backup to {to}", endpoint, keys, attempts=REMOTE_ATTEMPTS), bucket, prefix)


_private = partial(os.open, mode=0o600)
