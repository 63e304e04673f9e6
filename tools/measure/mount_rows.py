"""The rows of the mount: programs and system calls, as somebody at a terminal has them."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tools.measure.fill import EMPTY, FILES, FULL
from tools.measure.load import Load, WrongAnswer, clocked
from tools.measure.row import OURS, Measure, Row, Target
from tools.measure.setting import MB, Setting, distinct, measured
from tools.measure.systems import BARE_FUSE, JUICE, PUBLISHED, SEAWEED, System

MIB = 1 << 20
STREAM = 256 * MIB
EMPTY_ONE = "an empty one"
_SMALL = 4096
_CREATED = 400
_RANDOM_READS, _RANDOM_WRITES, _WRITES_A_SYNC = 2000, 1024, 64
_STATS_WARM = 20_000
_RENAMES = 20
_TREE_FILES, _TREE_FOLDERS = 2000, 160
_DROP = Path("/proc/sys/vm/drop_caches")

CLOSING = ("create", "untar")
"""Rows that close many files."""

Call = Callable[[Setting, System, int], tuple[float, Load]]
Prepare = Callable[[Setting, System], None]


def _nothing(_: Setting, __: System) -> None:
    pass


def _row(
    name: str, title: str, unit: str, call: Call, targets: Sequence[Target], prepare: Prepare = _nothing
) -> Callable[[Setting], list[Row]]:
    """A row in which each mount does the same; the bare one takes part where it is a target, and the mount with
    another promise for close(2) where many files are closed."""

    def make(setting: Setting) -> list[Row]:
        lanes: dict[str, Measure] = {}
        beside = {target.beside for target in targets}
        for system in setting.with_place():
            if (system.name != BARE_FUSE or BARE_FUSE in beside) and (system.name != PUBLISHED or name in CLOSING):
                prepare(setting, system)
                lanes[system.name] = measured(partial(call, setting, system))
        return [Row(name, title, unit, lanes, targets)]

    return make


def _place(system: System) -> Path:
    assert system.place is not None
    return system.place


# Streams


def _piece(setting: Setting) -> bytes:
    return setting.random("stream").randbytes(MIB)


def _write_stream(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    path, piece, found = _place(system) / "stream", _piece(setting), list[Load]()
    with clocked(system.cpu_s, found):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for _ in range(STREAM // MIB):
            os.write(file, piece)
        os.fsync(file)
        os.close(file)
    if system.name != BARE_FUSE:
        path.unlink()
    return STREAM / MB, found[0]


def make_data(path: Path, size: int, setting: Setting) -> None:
    """A file of whole MiB, which comes out as it is read back."""
    piece = _piece(setting)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(piece)
        os.fsync(file.fileno())


def _with_data(setting: Setting, system: System) -> None:
    """The bare one shows a file that was made before."""
    path = _place(system) / "data"
    if not path.exists():
        make_data(path, STREAM, setting)


def _read_stream(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    piece, found, room = _piece(setting), list[Load](), bytearray(MIB)
    file = _opened_cold(_place(system) / "data")
    with clocked(system.cpu_s, found):
        for _ in range(STREAM // MIB):
            os.readv(file, [room])
    os.close(file)
    if room != piece:
        raise WrongAnswer(f"{system.name} gives other bytes than it got")
    return STREAM / MB, found[0]


def _opened_cold(path: Path) -> int:
    """For reading, the kernel's pages of it dropped."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def _read_at_random(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    drawn, found = setting.random("read", round_), list[Load]()
    piece = _piece(setting)
    offsets = [drawn.randrange(STREAM // _SMALL) * _SMALL for _ in range(_RANDOM_READS)]
    file = _opened_cold(_place(system) / "data")
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    with clocked(system.cpu_s, found):
        for offset in offsets:
            data = os.pread(file, _SMALL, offset)
    os.close(file)
    if data != piece[offset % MIB :][:_SMALL]:
        raise WrongAnswer(f"{system.name} gives other bytes than it got")
    return _RANDOM_READS, found[0]


def _with_written(setting: Setting, system: System) -> None:
    make_data(_place(system) / "written", STREAM // 4, setting)


def _write_at_random(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    drawn, found = setting.random("write", round_), list[Load]()
    pieces = distinct(drawn, _SMALL, _RANDOM_WRITES)
    offsets = [drawn.randrange(STREAM // 4 // _SMALL) * _SMALL for _ in range(_RANDOM_WRITES)]
    file = os.open(_place(system) / "written", os.O_RDWR)
    with clocked(system.cpu_s, found):
        for number, (offset, piece) in enumerate(zip(offsets, pieces, strict=True), 1):
            os.pwrite(file, piece, offset)
            if number % _WRITES_A_SYNC == 0:
                os.fsync(file)
    os.close(file)
    return _RANDOM_WRITES, found[0]


# Names


def _create(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    pieces, found = distinct(setting.random("create", round_), _SMALL, _CREATED), list[Load]()
    names = [os.fspath(_place(system) / f"created{round_}-{number}") for number in range(_CREATED)]
    with clocked(system.cpu_s, found):
        for name, piece in zip(names, pieces, strict=True):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(file, piece)
            os.close(file)
    for name in names:
        os.unlink(name)
    return _CREATED, found[0]


def _archive(setting: Setting) -> Path:
    """A tree such as programs come in: many small files, few large ones."""
    path = setting.folder / "tree.tar"
    if path.exists():
        return path
    drawn = setting.random("tree")
    with tarfile.open(path, "w") as archive:
        for number in range(_TREE_FILES):
            folder = drawn.randrange(_TREE_FOLDERS)
            info = tarfile.TarInfo(f"tree/{folder % 12}/{folder}/{number}.c")
            info.size = min(int(drawn.lognormvariate(8.5, 1.2)), MIB)
            info.mtime = 1_700_000_000 + number
            archive.addfile(info, io.BytesIO(drawn.randbytes(info.size)))
    return path


def _command(system: System, *words: str | Path) -> Load:
    found: list[Load] = []
    with clocked(system.cpu_s, found):
        subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    return found[0]


def _tree(setting: Setting, system: System) -> Path:
    """It is there on return."""
    place = _place(system) / "there"
    if not place.exists():
        place.mkdir()
        _command(system, "tar", "-xf", _archive(setting), "-C", place)
    return place


def _with_tree(setting: Setting, system: System) -> None:
    _tree(setting, system)


def _untar(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    archive, place = _archive(setting), _place(system) / f"untar{round_}"
    place.mkdir()
    load = _command(system, "tar", "-xf", archive, "-C", place)
    shutil.rmtree(place)
    return _TREE_FILES, load


def _remove(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    place = _place(system) / f"remove{round_}"
    place.mkdir()
    _command(system, "tar", "-xf", _archive(setting), "-C", place)
    return _TREE_FILES, _command(system, "rm", "-rf", place)


def _find(setting: Setting, system: System, round_: int, *, cold: bool) -> tuple[float, Load]:
    """With the size of each, so that attributes are asked for too."""
    place = _tree(setting, system)
    words = ("find", place, "-size", "+100000")
    if cold:
        _drop_names()
    else:
        _command(system, *words)
    return _TREE_FILES, _command(system, *words)


def _names(place: Path) -> Iterator[str]:
    for folder, _, names in os.walk(place):
        yield from (os.path.join(folder, name) for name in names)


def _stat_cold(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    names, found = sorted(_names(_tree(setting, system))), list[Load]()
    setting.random("stat", round_).shuffle(names)
    _drop_names()
    with clocked(system.cpu_s, found):
        for name in names:
            os.stat(name)
    return len(names), found[0]


def _stat_warm(setting: Setting, system: System, round_: int) -> tuple[float, Load]:
    """Of the bare one each is a request."""
    name = _place(system) / "bare"
    if system.name != BARE_FUSE:
        name.touch()
    path, found = os.fspath(name), list[Load]()
    os.stat(path)
    with clocked(system.cpu_s, found):
        for _ in range(_STATS_WARM):
            os.stat(path)
    return _STATS_WARM, found[0]


def _drop_names() -> None:
    """The kernel's, of all that is mounted: nobody else can be asked."""
    _DROP.write_text("2")


def _rename_row(setting: Setting) -> list[Row]:
    """Of a directory with many files, beside an empty one, both ours."""
    ours = setting.systems[OURS]
    lanes = {
        OURS: measured(partial(_rename, ours, FULL)),
        EMPTY_ONE: measured(partial(_rename, ours, EMPTY)),
    }
    return [
        Row("rename-dir", f"rename of a directory with {FILES:,} files", "renames", lanes, [Target(EMPTY_ONE, 0.5)])
    ]


def _rename(system: System, name: str, round_: int) -> tuple[float, Load]:
    path = _place(system) / name
    other = path.with_name(f"{path.name}-renamed")
    found: list[Load] = []
    with clocked(system.cpu_s, found):
        for _ in range(_RENAMES // 2):
            path.rename(other)
            other.rename(path)
    return _RENAMES, found[0]


_PEERS = (Target(JUICE, 1.0), Target(SEAWEED, 1.0))

ROWS: dict[str, Callable[[Setting], list[Row]]] = {
    "seq-write": _row(
        "seq-write", "sequential write, fsync", "MB", _write_stream, [Target(BARE_FUSE, 0.9), Target(JUICE, 1.3)]
    ),
    "seq-read": _row(
        "seq-read",
        "sequential read, cold",
        "MB",
        _read_stream,
        [Target(BARE_FUSE, 0.5), Target(JUICE, 1.3)],
        _with_data,
    ),
    "create": _row(
        "create", "create, write 4 KiB, close", "files", _create, [Target(BARE_FUSE, 0.4), Target(JUICE, 2.0)]
    ),
    "untar": _row("untar", f"tar -x of {_TREE_FILES:,} files", "files", _untar, _PEERS),
    "rm": _row("rm", "rm -rf of that tree", "files", _remove, _PEERS),
    "find": lambda setting: [
        *_row("find", "find -size, cold", "files", partial(_find, cold=True), _PEERS, _with_tree)(setting),
        *_row("find", "find -size, warm", "files", partial(_find, cold=False), _PEERS, _with_tree)(setting),
    ],
    "stat": lambda setting: [
        *_row("stat", "stat, cold", "stats", _stat_cold, _PEERS, _with_tree)(setting),
        *_row("stat", "stat, warm", "stats", _stat_warm, [Target(BARE_FUSE, 8.0)])(setting),
    ],
    "rand-read": _row("rand-read", "random read of 4 KiB", "reads", _read_at_random, _PEERS, _with_data),
    "rand-write": _row(
        "rand-write",
        f"random write of 4 KiB, fsync each {_WRITES_A_SYNC}",
        "writes",
        _write_at_random,
        _PEERS,
        _with_written,
    ),
    "rename-dir": _rename_row,
}
