"""Shards as files below a device's folder."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from stratumfs.descriptor import Descriptor
from stratumfs.errors import DeviceFailed, ShardMissing, StratumError, of_device
from stratumfs.ids import Buffer
from stratumfs.limits import SHARD_FILES_OPEN_MAX
from stratumfs.shards import allocation
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import (
    QUARANTINE_FOLDER,
    UNFINISHED,
    VOLUMES_FOLDER,
    ShardName,
    folder_of,
    parse_file_name,
    path_of,
    unfinished_path_of,
)


class LocalShards:
    """The shards below *root*, a device's folder (a `ShardBackend`).

    All paths are resolved from a descriptor of the folder that is opened here: should its disk be unmounted meanwhile,
    nothing is ever written into the mount point underneath.

    Descriptors for reading are kept in a bounded cache. A reader holds its descriptor's object while it reads, so that
    one thrown out meanwhile is closed only afterwards and its number can't come to mean another file under its hands.

    Raises: DeviceFailed if *root* can't be opened; DeviceUnasked.
    """

    def __init__(self, root: Path, *, open_max: int = SHARD_FILES_OPEN_MAX) -> None:
        self.root = root
        self._open_max = open_max
        self._files: OrderedDict[ShardName, Descriptor] = OrderedDict()
        self._forgotten = 0  # counts removals from _files: what was opened before one may be another file by now
        # Guards both; never held over what may block, as close(2) may: what falls out of _files outlives it.
        self._lock = threading.Lock()
        try:
            self._folder = Descriptor(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise of_device(error, f"device {root}: cannot open it: {error.strerror}", str(root)) from error

    def create(self, name: ShardName) -> OpenShard:
        with self._translated("create", name, making=True):
            self._make_folders(name)
            number = self._open_file(path_of(name), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return LocalOpenShard(self, name, number)

    def reopen(self, name: ShardName) -> OpenShard:
        with self._translated("open", name):
            return LocalOpenShard(self, name, self._open_file(path_of(name), os.O_RDWR))

    def begin_anew(self, name: ShardName) -> OpenShard:
        path = unfinished_path_of(name)
        with self._translated("rebuild", name, making=True):
            self._make_folders(name)
            try:
                number = self._open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                os.unlink(path, dir_fd=self._folder.number)  # not cut: a thread that is stuck may write to it yet
                number = self._open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return LocalOpenShard(self, name, number)

    def install(self, name: ShardName) -> None:
        with self._translated("install", name, making=True):
            number = self._folder.number
            os.rename(unfinished_path_of(name), path_of(name), src_dir_fd=number, dst_dir_fd=number)
        self._forget(name)
        self.sync_folder(name)

    def drop_unfinished(self, folder: str) -> None:
        path = f"{VOLUMES_FOLDER}/{folder}"
        with self._translated("tidy", path):
            for name in self._list(path):
                if name.endswith(UNFINISHED):
                    os.unlink(f"{path}/{name}", dir_fd=self._folder.number)

    def sync_folder(self, name: ShardName) -> None:
        folder = folder_of(name)
        with self._translated("sync the folder of", name, making=True):
            # The folder itself may be new, and the one above it too.
            for each in (folder, folder.parent, "."):
                self._sync(each)

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        with self._translated("read", name):
            file = self._open(name)
            data = os.pread(file.number, length, position)
            if len(data) == length or not data:
                return data
            return self._read_on(file, data, position, length)

    def read_nowait(self, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        with self._lock:
            file = self._files.get(name)
        if file is None:
            return False  # opening it may block
        try:
            count = os.preadv(file.number, parts, position, os.RWF_NOWAIT)
        except OSError:
            return False  # EAGAIN; EOPNOTSUPP of file systems without it; errors that a thread will meet again
        return count == sum(map(len, parts))

    def will_read(self, name: ShardName, position: int, length: int) -> None:
        with contextlib.suppress(OSError):  # what fails here fails again in `read_at`
            os.posix_fadvise(self._open(name).number, position, length, os.POSIX_FADV_WILLNEED)

    def size(self, name: ShardName) -> int:
        with self._translated("stat", name):
            return os.stat(path_of(name), dir_fd=self._folder.number).st_size

    def uncache(self, name: ShardName) -> None:
        with self._translated("read", name):
            os.posix_fadvise(self._open(name).number, 0, 0, os.POSIX_FADV_DONTNEED)

    def unlink(self, name: ShardName) -> None:
        self._forget(name)
        with self._translated("unlink", name), contextlib.suppress(FileNotFoundError):
            os.unlink(path_of(name), dir_fd=self._folder.number)

    def quarantine(self, names: Iterable[ShardName]) -> None:
        with self._translated("make", QUARANTINE_FOLDER), contextlib.suppress(FileExistsError):
            os.mkdir(QUARANTINE_FOLDER, 0o700, dir_fd=self._folder.number)
        moved: list[ShardName] = []
        for name in names:
            self._forget(name)
            with self._translated("move aside", name), contextlib.suppress(FileNotFoundError):
                self._link_aside(name)
                moved.append(name)
        # A power cut must not take the old name before the new one is safe.
        self._sync_folders(QUARANTINE_FOLDER, ".")
        for name in moved:
            self.unlink(name)
        self._sync_folders(*{folder_of(name) for name in moved})

    def quarantined(self) -> list[ShardName]:
        with self._translated("list", QUARANTINE_FOLDER):
            found = map(parse_file_name, self._list(QUARANTINE_FOLDER))
        return [name for name in found if name is not None]

    def take_back(self, names: Iterable[ShardName]) -> None:
        number = self._folder.number
        back: list[ShardName] = []
        for name in names:
            with self._translated("take back", name), contextlib.suppress(FileExistsError):
                self._make_folders(name)
                os.link(f"{QUARANTINE_FOLDER}/{name}", path_of(name), src_dir_fd=number, dst_dir_fd=number)
                back.append(name)
        for name in back:  # as in `quarantine`, the other way round
            self.sync_folder(name)
        for name in back:
            with self._translated("take back", name):
                os.unlink(f"{QUARANTINE_FOLDER}/{name}", dir_fd=number)
        if back:
            self._sync_folders(QUARANTINE_FOLDER)

    def probe(self) -> None:
        self._sync_folders(".")

    def names(self, folder: str) -> list[ShardName]:
        path = f"{VOLUMES_FOLDER}/{folder}"
        with self._translated("list", path):
            found = map(parse_file_name, self._list(path))
        return [name for name in found if name is not None and folder_of(name).name == folder]

    def close(self) -> None:
        with self._lock:
            dropped, self._files = self._files, OrderedDict()
        dropped.clear()
        self._folder.close()

    def _list(self, folder: str) -> list[str]:
        """Names in a folder; none if there is no such folder."""
        try:
            number = self._open_file(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(number)
        finally:
            os.close(number)

    def _link_aside(self, name: ShardName) -> None:
        attempt = 0
        while True:
            aside = f"{QUARANTINE_FOLDER}/{name}" + (f".{attempt}" if attempt else "")
            try:
                # link refuses an existing name, where rename would replace what was moved aside before
                os.link(path_of(name), aside, src_dir_fd=self._folder.number, dst_dir_fd=self._folder.number)
            except FileExistsError:
                attempt += 1
            else:
                return

    def _read_on(self, file: Descriptor, data: bytes, position: int, length: int) -> bytes:
        """Short reads are legal before the end too (a signal, some file systems): only nothing at all is the end."""
        parts = [data]
        have = len(data)
        while have < length:
            data = os.pread(file.number, length - have, position + have)
            if not data:
                break
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def _open(self, name: ShardName) -> Descriptor:
        with self._lock:
            file = self._files.get(name)
            if file is not None:
                self._files.move_to_end(name)
                return file
            forgotten = self._forgotten
        opened = Descriptor(self._open_file(path_of(name), os.O_RDONLY))
        with self._lock:
            if forgotten != self._forgotten:
                return opened  # perhaps what was replaced meanwhile: good for this read, and not to be kept
            file = self._files.setdefault(name, opened)
            self._files.move_to_end(name)
            dropped = [self._files.popitem(last=False) for _ in range(len(self._files) - self._open_max)]
        del opened, dropped
        return file

    def _forget(self, name: ShardName) -> None:
        with self._lock:
            dropped = self._files.pop(name, None)
            self._forgotten += 1
        del dropped

    def _make_folders(self, name: ShardName) -> None:
        folder = folder_of(name)
        for each in (folder.parent, folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, 0o700, dir_fd=self._folder.number)

    def _open_file(self, path: str | PurePosixPath, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=self._folder.number)

    def _sync_folders(self, *folders: str | PurePosixPath) -> None:
        for folder in folders:
            with self._translated("sync", folder):
                self._sync(folder)

    def _sync(self, folder: str | PurePosixPath) -> None:
        number = self._open_file(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    @contextlib.contextmanager
    def _translated(self, action: str, what: object, *, making: bool = False) -> Iterator[None]:
        """OSError to the errors that backends owe."""
        try:
            yield
        except OSError as error:
            raise self.translate(error, action, what, making=making) from error

    def translate(self, error: OSError, action: str, what: object, *, making: bool = False) -> StratumError:
        """What *error* means, having met it when doing *action* to *what*. making: no file was looked for, but made or
        held open; if one is missing somebody has emptied the device."""
        message = f"device {self.root}: cannot {action} {what}: {error.strerror}"
        if isinstance(error, FileNotFoundError) and not making and os.fstat(self._folder.number).st_nlink:
            return ShardMissing(message)
        return of_device(error, message, str(self.root))


class LocalOpenShard:
    """A shard's file, open for writing (an `OpenShard`).

    Whoever uses the descriptor holds its object meanwhile: a call that hangs while another lets go of the shard keeps
    the file open, and its number can't come to mean another file.
    """

    def __init__(self, shards: LocalShards, name: ShardName, number: int) -> None:
        self._shards = shards
        self._name = name
        self._file: Descriptor | None = Descriptor(number)

    def preallocate(self, start: int, end: int) -> None:
        file = self._held()
        try:
            allocation.allocate(file.number, start, end - start)
        except OSError as error:
            raise self._shards.translate(error, "preallocate", self._name, making=True) from error

    def write_at(self, position: int, parts: Sequence[Buffer]) -> None:
        file = self._held()
        try:
            total = sum(len(part) for part in parts)
            done = os.pwritev(file.number, parts, position) if len(parts) <= _IOV_MAX else 0
            if done < total:
                _write_on(file, position, memoryview(b"".join(parts)), done)
        except OSError as error:
            raise self._shards.translate(error, "write", self._name, making=True) from error

    def datasync(self) -> None:
        file = self._held()
        try:
            os.fdatasync(file.number)
        except OSError as error:
            raise self._shards.translate(error, "fdatasync", self._name, making=True) from error

    def cut(self, size: int) -> None:
        file = self._held()
        try:
            os.ftruncate(file.number, size)
        except OSError as error:
            raise self._shards.translate(error, "truncate", self._name, making=True) from error

    def size(self) -> int:
        file = self._held()
        try:
            return os.fstat(file.number).st_size
        except OSError as error:
            raise self._shards.translate(error, "stat", self._name, making=True) from error

    def close(self) -> None:
        self._file = None  # the last user of the descriptor closes it

    def _held(self) -> Descriptor:
        file = self._file
        if file is None:
            raise DeviceFailed(f"shard {self._name} was let go of", str(self._shards.root))
        return file


def _write_on(file: Descriptor, position: int, data: memoryview, done: int) -> None:
    """A short write is legal; the next one then says why (a full disk), or goes on."""
    while done < len(data):
        done += os.pwrite(file.number, data[done:], position + done)


_IOV_MAX = int(os.sysconf("SC_IOV_MAX"))
