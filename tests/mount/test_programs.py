"""Programs that people use, unchanged, on the mount."""

import sys
from pathlib import Path

import pytest

from tests.mount import fsx
from tests.mount.conftest import Mount

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


@pytest.fixture(scope="module")
def tree(mount: Mount) -> Path:
    """A bucket with a folder ``tree`` of everything."""
    path = mount.path / "programs"
    path.mkdir()
    mount.shell(_TREE, path)
    return path


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("cp", "cp -a tree {0}"),
        ("rsync", "rsync -aHAX tree/ {0}/"),
        ("tar", "mkdir {0}; tar --xattrs -cf t.tar -C tree . && tar --xattrs --xattrs-include='*' -xpf t.tar -C {0}"),
    ],
)
def test_copies_are_like_the_original(mount: Mount, tree: Path, name: str, script: str) -> None:
    copy = f"by-{name}"
    mount.shell(script.format(copy), tree)
    mount.shell(f"diff -r --no-dereference -x fifo tree {copy}", tree)
    original, copied = (mount.shell(_LISTING, tree / folder) for folder in ("tree", copy))
    assert _without_directory_times(copied) == _without_directory_times(original)


def _without_directory_times(listing: str) -> list[str]:
    """Of directories mode and owner count; tools set their times in different order."""
    return [" ".join(line.split(" ")[:5]) if " d " in line else line for line in listing.splitlines()]


def test_rsync_finds_nothing_to_do_afterwards(mount: Mount, tree: Path) -> None:
    mount.shell("rsync -aHAX --delete tree/ again/", tree)
    assert mount.shell("rsync -aHAXci --delete tree/ again/", tree) == ""
    mount.shell("printf changed >> tree/deep/f7; rsync -a --inplace tree/ again/; cmp tree/deep/f7 again/deep/f7", tree)


def test_git_clones_commits_and_checks(mount: Mount, bucket: Path) -> None:
    mount.shell(
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


def test_git_takes_what_it_remembers_of_files_as_unchanged(mount: Mount, bucket: Path) -> None:
    """ctime must not move when what was written is published, or each `status` reads all files again."""
    mount.shell(
        """
        export HOME=$PWD; git init -q repo && cd repo && echo one > a && git add a
        before=$(git ls-files --debug a); sync; stat a > /dev/null; git update-index --refresh
        [ "$(git ls-files --debug a)" = "$before" ]
        """,
        bucket,
    )


def test_sqlite_keeps_its_promises(mount: Mount, bucket: Path) -> None:
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
    mount.python(script, folder=bucket)


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
def test_editors_save(mount: Mount, bucket: Path, name: str, save: str) -> None:
    (bucket / "f").write_text("old")
    mount.shell(save, bucket)
    assert (bucket / "f").read_text().strip() == "new"


def test_a_compiler_builds_and_runs(mount: Mount, bucket: Path) -> None:
    (bucket / "a.c").write_text('#include <stdio.h>\nint f(void);int main(void){printf("%d\\n", f());}\n')
    (bucket / "b.c").write_text("int f(void){return 42;}\n")
    assert mount.shell("gcc -c a.c b.c && ar rc lib.a b.o && gcc -o prog a.o lib.a && ./prog", bucket) == "42\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_file_holds_what_a_file_holds(mount: Mount, bucket: Path, seed: int) -> None:
    mount.shell(f"{sys.executable} {fsx.__file__} file {seed} 120", bucket)


def test_many_processes_write_one_file_and_many(mount: Mount, bucket: Path) -> None:
    mount.shell(
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
