"""Client programs as people use them, unmodified: aws, rclone, s5cmd, s3cmd."""

import filecmp
import hashlib
import os
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.s3.door import ACCESS_KEY, REGION, SECRET_KEY, Gateway

pytestmark = [pytest.mark.client, pytest.mark.slow]
PROGRAMS = Path(sys.executable).parent
MIB = 1 << 20
_numbers = count(1)

Run = Callable[..., str]


@pytest.fixture
def run(served: Gateway, tmp_path: Path) -> Run:
    """Runs a program in the test's folder and gives its output; fails with what it said if it fails."""
    _configure(served)

    def run(*words: str, fails: bool = False) -> str:
        done = subprocess.run(
            [str(PROGRAMS / words[0]), *words[1:]],
            env=served.environment(),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout + done.stderr if fails else done.stdout

    return run


def _configure(served: Gateway) -> None:
    """Settings that rclone and s3cmd take from files alone."""
    rclone = served.home / ".config/rclone/rclone.conf"
    rclone.parent.mkdir(parents=True, exist_ok=True)
    rclone.write_text(
        f"[store]\ntype = s3\nprovider = Other\naccess_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n"
        f"endpoint = {served.url}\nregion = {REGION}\n"
    )
    (served.home / ".s3cfg").write_text(
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\nhost_base = {served.address}\n"
        f"host_bucket = {served.address}\nuse_https = False\nbucket_location = {REGION}\n"
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of all sizes with names that are no pleasure; the largest is sent in parts by all programs."""
    root = tmp_path / "tree"
    for name, size in {
        "one file.txt": 7,
        "empty": 0,
        "sub/ü+ö%20&.txt": 20_000,
        "sub/deep/a=b;c.bin": 2 * MIB + 1,
        "sub/large.bin": 23 * MIB + 5,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return root


@pytest.fixture
def name() -> Iterator[str]:
    """Of a bucket that the test's program makes and removes."""
    return f"programs-{next(_numbers)}"


def same(left: Path, right: Path) -> bool:
    """Whether two trees have the same files with the same bytes."""
    files = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    others = sorted(path.relative_to(right) for path in right.rglob("*") if path.is_file())
    return files == others and all(filecmp.cmp(left / each, right / each, shallow=False) for each in files)


def fetched(url: str) -> bytes:
    """What is behind a URL, for a stranger."""
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=60) as answer:
        data: bytes = answer.read()
        return data


def test_aws(run: Run, tree: Path, name: str) -> None:
    def aws(*words: str, fails: bool = False) -> str:
        return run("aws", *words, fails=fails)

    aws("s3", "mb", f"s3://{name}")
    assert "BucketAlreadyOwnedByYou" in aws("s3", "mb", f"s3://{name}", fails=True)
    aws("s3", "cp", "--recursive", "--quiet", "tree", f"s3://{name}/tree")
    assert aws("s3", "sync", "--quiet", "tree", f"s3://{name}/tree") == ""
    assert "PRE tree/" in aws("s3", "ls", f"s3://{name}")
    assert len(aws("s3", "ls", "--recursive", f"s3://{name}").splitlines()) == 5
    aws("s3", "cp", "--quiet", f"s3://{name}/tree/sub/large.bin", f"s3://{name}/copy.bin")
    aws("s3", "mv", "--quiet", f"s3://{name}/copy.bin", f"s3://{name}/moved.bin")
    aws("s3", "sync", "--quiet", f"s3://{name}/tree", "back")
    assert same(tree, tree.parent / "back")
    url = aws("s3", "presign", f"s3://{name}/moved.bin").strip()
    assert fetched(url) == (tree / "sub/large.bin").read_bytes()
    head = ("s3api", "head-object", "--bucket", name, "--key")
    assert '"ContentType": "text/plain"' in aws(*head, "tree/one file.txt")
    assert "404" in aws(*head, "missing", fails=True)
    tags = ("s3api", "get-object-tagging", "--bucket", name, "--key", "moved.bin")
    assert "NotImplemented" in aws(*tags, fails=True)
    aws("s3", "rb", "--force", f"s3://{name}")
    assert name not in aws("s3", "ls")


def test_rclone(run: Run, tree: Path, name: str) -> None:
    place = f"store:{name}"
    run("rclone", "copy", "tree", f"{place}/tree")
    run("rclone", "check", "tree", f"{place}/tree")
    run("rclone", "check", "--download", "tree", f"{place}/tree")
    assert len(run("rclone", "lsf", "-R", "--files-only", place).splitlines()) == 5
    run("rclone", "moveto", f"{place}/tree/sub/large.bin", f"{place}/other/large.bin")
    run("rclone", "sync", "tree", f"{place}/tree")
    run("rclone", "copy", f"{place}/tree", "back")
    assert same(tree, tree.parent / "back")
    run("rclone", "copy", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "tree/sub", f"{place}/parts")
    run("rclone", "check", "--download", "tree/sub", f"{place}/parts")
    run("rclone", "purge", place)
    assert name not in run("rclone", "lsd", "store:")


def test_s5cmd(run: Run, tree: Path, name: str) -> None:
    run("s5cmd", "mb", f"s3://{name}")
    run("s5cmd", "cp", "--part-size", "5", "tree/", f"s3://{name}/tree/")
    assert run("s5cmd", "sync", "--size-only", "tree/", f"s3://{name}/tree/") == ""
    assert len(run("s5cmd", "ls", f"s3://{name}/*").splitlines()) == 5
    run("s5cmd", "mv", f"s3://{name}/tree/sub/large.bin", f"s3://{name}/moved.bin")
    run("s5cmd", "mv", f"s3://{name}/moved.bin", f"s3://{name}/tree/sub/large.bin")
    run("s5cmd", "cp", f"s3://{name}/tree/*", "back/")
    assert same(tree, tree.parent / "back")
    run("s5cmd", "rm", f"s3://{name}/*")
    run("s5cmd", "rb", f"s3://{name}")


def test_s3cmd(run: Run, tree: Path, name: str) -> None:
    def s3cmd(*words: str) -> str:
        return run("s3cmd", "--no-progress", *words)

    s3cmd("mb", f"s3://{name}")
    s3cmd("put", "--recursive", "--multipart-chunk-size-mb=5", "tree", f"s3://{name}/")
    assert "upload:" not in s3cmd("sync", "tree/", f"s3://{name}/tree/")
    assert len(s3cmd("ls", "-r", f"s3://{name}").splitlines()) == 5
    assert "File size: 7" in s3cmd("info", f"s3://{name}/tree/one file.txt")
    assert REGION in s3cmd("info", f"s3://{name}")
    s3cmd("cp", f"s3://{name}/tree/sub/large.bin", f"s3://{name}/copy.bin")
    s3cmd("mv", f"s3://{name}/copy.bin", f"s3://{name}/moved.bin")
    s3cmd("modify", "--add-header=x-amz-meta-colour:green", f"s3://{name}/moved.bin")
    assert "x-amz-meta-colour: green" in s3cmd("info", f"s3://{name}/moved.bin")
    url = s3cmd("signurl", f"s3://{name}/moved.bin", "+600").strip()
    assert fetched(url) == (tree / "sub/large.bin").read_bytes()
    (tree.parent / "back").mkdir()
    s3cmd("get", "--recursive", f"s3://{name}/tree/", "back/")
    assert same(tree, tree.parent / "back")
    s3cmd("del", "--recursive", "--force", f"s3://{name}")
    s3cmd("rb", f"s3://{name}")


def test_a_gibibyte_goes_up_in_parts_and_comes_back(run: Run, tmp_path: Path, name: str) -> None:
    """And it is never held in memory: the gateway runs in this process."""
    large, block = tmp_path / "large.bin", os.urandom(16 * MIB - 1)
    hasher = hashlib.sha256()
    with large.open("wb") as file:
        for number in range(64):
            for piece in (block, bytes([number])):
                file.write(piece)
                hasher.update(piece)
    run("aws", "s3", "mb", f"s3://{name}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run("aws", "s3", "cp", "--quiet", "large.bin", f"s3://{name}/large.bin")
    large.unlink()
    run("aws", "s3", "cp", "--quiet", f"s3://{name}/large.bin", "back.bin")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    with (tmp_path / "back.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hasher.digest()
    assert grown_kib < 512 << 10
    run("aws", "s3", "rb", "--force", f"s3://{name}")
