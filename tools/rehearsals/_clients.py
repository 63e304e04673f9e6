"""How each client program does what people do: the commands, as typed. ``{}`` names are filled in for each run."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.doors import BIN, REGION, Doors, run

COMMAND_S = 1800.0
MIB = 1 << 20


class Client(ABC):
    """One client and a bucket of its own. Every step raises CommandFailed, or an error of boto3."""

    name = ""

    def __init__(self, doors: Doors, home: Path) -> None:
        self.doors, self.home = doors, home
        self.bucket = f"client-{self.name.replace(' ', '-')}"

    @abstractmethod
    def make_bucket(self) -> None: ...

    @abstractmethod
    def put(self, path: Path, key: str) -> None: ...

    @abstractmethod
    def get(self, key: str, path: Path) -> None: ...

    @abstractmethod
    def copy(self, key: str, new: str) -> None: ...

    @abstractmethod
    def sync(self, folder: Path, prefix: str) -> None: ...

    @abstractmethod
    def sync_back(self, prefix: str, folder: Path) -> None: ...

    @abstractmethod
    def keys(self) -> int:
        """How many it lists."""

    @abstractmethod
    def remove_all(self) -> None:
        """All keys, then the bucket."""


class Program(Client):
    """One that is a command line."""

    program = ""

    def call(self, *words: str) -> str:
        return run([str(BIN / self.program), *words], env=self.environment(), cwd=self.home, timeout=COMMAND_S)

    def environment(self) -> Mapping[str, str]:
        return self.doors.environment() | {"HOME": str(self.home)}

    def at(self, key: str = "") -> str:
        return f"s3://{self.bucket}/{key}"


class Aws(Program):
    name, program = "aws s3", "aws"

    def s3(self, *words: str) -> str:
        return self.call("s3", *words)

    def make_bucket(self) -> None:
        self.s3("mb", self.at())

    def put(self, path: Path, key: str) -> None:
        self.s3("cp", "--only-show-errors", str(path), self.at(key))

    def get(self, key: str, path: Path) -> None:
        self.s3("cp", "--only-show-errors", self.at(key), str(path))

    def copy(self, key: str, new: str) -> None:
        self.s3("cp", "--only-show-errors", self.at(key), self.at(new))

    def sync(self, folder: Path, prefix: str) -> None:
        self.s3("sync", "--only-show-errors", str(folder), self.at(prefix))

    def sync_back(self, prefix: str, folder: Path) -> None:
        self.s3("sync", "--only-show-errors", self.at(prefix), str(folder))

    def keys(self) -> int:
        return len(self.s3("ls", "--recursive", self.at()).splitlines())

    def remove_all(self) -> None:
        self.s3("rb", "--force", self.at())


class Rclone(Program):
    name = program = "rclone"

    def environment(self) -> Mapping[str, str]:
        access_key, secret_key = self.doors.credentials
        settings = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ACCESS_KEY_ID": access_key,
            "SECRET_ACCESS_KEY": secret_key,
            "ENDPOINT": self.doors.url,
            "REGION": REGION,
        }
        found = dict(super().environment())
        return found | {f"RCLONE_CONFIG_STORE_{name}": value for name, value in settings.items()}

    def at(self, key: str = "") -> str:
        return f"store:{self.bucket}/{key}"

    def make_bucket(self) -> None:
        self.call("mkdir", self.at())

    def put(self, path: Path, key: str) -> None:
        self.call("copyto", str(path), self.at(key))

    def get(self, key: str, path: Path) -> None:
        self.call("copyto", self.at(key), str(path))

    def copy(self, key: str, new: str) -> None:
        self.call("copyto", self.at(key), self.at(new))

    def sync(self, folder: Path, prefix: str) -> None:
        self.call("sync", str(folder), self.at(prefix))
        self.call("check", "--download", str(folder), self.at(prefix))

    def sync_back(self, prefix: str, folder: Path) -> None:
        self.call("sync", self.at(prefix), str(folder))

    def keys(self) -> int:
        return len(self.call("lsf", "--recursive", "--files-only", self.at()).splitlines())

    def remove_all(self) -> None:
        self.call("purge", self.at())


class S5cmd(Program):
    name = program = "s5cmd"

    def make_bucket(self) -> None:
        self.call("mb", self.at())

    def put(self, path: Path, key: str) -> None:
        self.call("cp", str(path), self.at(key))

    def get(self, key: str, path: Path) -> None:
        self.call("cp", self.at(key), str(path))

    def copy(self, key: str, new: str) -> None:
        self.call("cp", self.at(key), self.at(new))

    def sync(self, folder: Path, prefix: str) -> None:
        self.call("sync", f"{folder}/", self.at(f"{prefix}/"))

    def sync_back(self, prefix: str, folder: Path) -> None:
        self.call("sync", self.at(f"{prefix}/*"), f"{folder}/")

    def keys(self) -> int:
        return len(self.call("ls", self.at("*")).splitlines())

    def remove_all(self) -> None:
        self.call("rm", self.at("*"))
        self.call("rb", self.at())


class S3cmd(Program):
    name = program = "s3cmd"

    def call(self, *words: str) -> str:
        access_key, secret_key = self.doors.credentials
        host = self.doors.url.removeprefix("http://")
        (self.home / ".s3cfg").write_text(
            f"[default]\naccess_key = {access_key}\nsecret_key = {secret_key}\nhost_base = {host}\n"
            f"host_bucket = {host}\nuse_https = False\nbucket_location = {REGION}\n"
        )
        return super().call("--no-progress", *words)

    def make_bucket(self) -> None:
        self.call("mb", self.at())

    def put(self, path: Path, key: str) -> None:
        self.call("put", str(path), self.at(key))

    def get(self, key: str, path: Path) -> None:
        self.call("get", self.at(key), str(path))

    def copy(self, key: str, new: str) -> None:
        self.call("cp", self.at(key), self.at(new))

    def sync(self, folder: Path, prefix: str) -> None:
        self.call("sync", f"{folder}/", self.at(f"{prefix}/"))

    def sync_back(self, prefix: str, folder: Path) -> None:
        folder.mkdir()
        self.call("sync", self.at(f"{prefix}/"), f"{folder}/")

    def keys(self) -> int:
        return len(self.call("ls", "--recursive", self.at()).splitlines())

    def remove_all(self) -> None:
        self.call("del", "--recursive", "--force", self.at())
        self.call("rb", self.at())


class Boto3(Client):
    """Its transfer functions, with their defaults."""

    name = "boto3"

    def __init__(self, doors: Doors, home: Path) -> None:
        super().__init__(doors, home)
        self._s3: Any = doors.client()

    def make_bucket(self) -> None:
        self._s3.create_bucket(Bucket=self.bucket)

    def put(self, path: Path, key: str) -> None:
        self._s3.upload_file(str(path), self.bucket, key)

    def get(self, key: str, path: Path) -> None:
        self._s3.download_file(self.bucket, key, str(path))

    def copy(self, key: str, new: str) -> None:
        self._s3.copy({"Bucket": self.bucket, "Key": key}, self.bucket, new)

    def sync(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(path, f"{prefix}/{path.relative_to(folder)}")

    def sync_back(self, prefix: str, folder: Path) -> None:
        for key in self._list():
            if key.startswith(f"{prefix}/"):
                path = folder / key.removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self.get(key, path)

    def keys(self) -> int:
        return len(self._list())

    def remove_all(self) -> None:
        self._s3.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in self._list()]})
        self._s3.delete_bucket(Bucket=self.bucket)

    def _list(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]


class AwsApi(Aws):
    """One S3 call a command; the upload's parts are cut by hand."""

    name = "aws s3api"

    def put(self, path: Path, key: str) -> None:
        upload = self._api("create-multipart-upload", "--key", key, "--query", "UploadId", "--output", "text").strip()
        part = self.home / "part"
        parts: list[str] = []
        with path.open("rb") as file:
            while data := file.read(64 * MIB):
                part.write_bytes(data)
                number = len(parts) + 1
                words = "--key", key, "--upload-id", upload, "--part-number", str(number), "--body", str(part)
                etag = self._api("upload-part", *words, "--query", "ETag", "--output", "text").strip()
                parts.append(f"{{ETag={etag},PartNumber={number}}}")
        part.unlink()
        done = f"Parts=[{','.join(parts)}]"
        self._api("complete-multipart-upload", "--key", key, "--upload-id", upload, "--multipart-upload", done)

    def get(self, key: str, path: Path) -> None:
        self._api("get-object", "--key", key, str(path))

    def copy(self, key: str, new: str) -> None:
        self._api("copy-object", "--key", new, "--copy-source", f"{self.bucket}/{key}")

    def keys(self) -> int:
        return int(self._api("list-objects-v2", "--query", "length(Contents)"))

    def _api(self, call: str, *words: str) -> str:
        return self.call("s3api", call, "--bucket", self.bucket, *words)


CLIENTS: tuple[type[Client], ...] = (Aws, AwsApi, Boto3, Rclone, S5cmd, S3cmd)
