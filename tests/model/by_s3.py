"""S3's calls, made by boto3 as it comes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model import objects
from tests.model.bucket import Bucket
from tests.model.draws import conditions, keys, seeds, sizes, specs
from tests.model.nodes import Span, Spec, md5
from tests.model.objects import If
from tests.model.world import some_bytes

_PART_MIN = 5 << 20


class ByS3(Bucket):
    def ask(self, call: str, key: bytes, spec: Spec = Spec(), **arguments: Any) -> Callable[[], Any]:  # noqa: B008
        """A call of boto3 on a key, with the headers of *spec*."""
        if spec.content_type is not None:
            arguments["ContentType"] = spec.content_type
        if spec.metadata:
            arguments["Metadata"] = dict(spec.metadata)
        if spec.cache_control is not None:
            arguments["CacheControl"] = spec.cache_control
        if spec.storage_class != "STANDARD":
            arguments["StorageClass"] = spec.storage_class
        return partial(getattr(self.world.s3, call), Bucket=self.bucket, Key=key.decode(), **arguments)

    @rule(key=keys, size=sizes, seed=seeds, spec=specs)
    def put(self, key: int | bytes, size: int, seed: int, spec: Spec) -> None:
        name, data = self.key(key), some_bytes(seed, size)
        ideal = partial(objects.put, self.tree, name, data, spec)
        self.both(f"put {name!r}", self.ask("put_object", name, spec, Body=data), lambda now: ideal(now))

    @rule(key=keys, seed=seeds, how=st.sampled_from(("IfMatch", "IfNoneMatch")), condition=conditions)
    def put_if(self, key: int | bytes, seed: int, how: str, condition: str) -> None:
        name, data = self.key(key), some_bytes(seed, 1000)
        there = objects.find(self.tree, name)
        etag = {"*": "*", "right": there.etag if there else md5(b"!"), "wrong": md5(b"?")}[condition]
        if how == "IfNoneMatch" and etag != "*":
            return  # S3 knows no other
        demand = If(match=etag) if how == "IfMatch" else If(none_match=etag)

        def ideal(now: Span) -> None:
            objects.put(self.tree, name, data, Spec(), now, demand)

        self.both(f"put {name!r} {how} {etag}", self.ask("put_object", name, Spec(), Body=data, **{how: etag}), ideal)

    @rule(key=keys)
    def delete(self, key: int | bytes) -> None:
        name = self.key(key)
        self.both(f"delete {name!r}", self.ask("delete_object", name), partial(objects.delete, self.tree, name))

    @rule(batch=st.lists(keys, min_size=1, max_size=4))
    def delete_many(self, batch: list[int | bytes]) -> None:
        found = [self.key(key) for key in batch]

        def call() -> None:
            listed = [{"Key": key.decode()} for key in found]
            answer = self.world.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": listed})
            assert not answer.get("Errors"), answer
            assert [each["Key"].encode() for each in answer["Deleted"]] == found

        def ideal(now: Span) -> None:
            for key in found:
                objects.delete(self.tree, key, now)

        self.both(f"delete {found!r}", call, ideal)

    @rule(source=keys, key=keys)
    def copy(self, source: int | bytes, key: int | bytes) -> None:
        old, new = self.key(source), self.key(key)
        call = self.ask("copy_object", new, CopySource={"Bucket": self.bucket, "Key": old.decode()})
        self.both(f"copy {old!r} {new!r}", call, partial(objects.copy, self.tree, old, new))

    @rule(key=keys, seed=seeds, size=sizes, two=st.integers(0, 4), spec=specs)
    def multipart(self, key: int | bytes, seed: int, size: int, two: int, spec: Spec) -> None:
        name = self.key(key)
        parts = [some_bytes(seed, size)]
        if two == 4:
            parts.insert(0, some_bytes(seed, _PART_MIN))

        def call() -> None:
            upload = self.ask("create_multipart_upload", name, spec)()["UploadId"]
            done = []
            for number, part in enumerate(parts, 1):
                answer = self.ask("upload_part", name, UploadId=upload, PartNumber=number, Body=part)()
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
            self.ask("complete_multipart_upload", name, UploadId=upload, MultipartUpload={"Parts": done})()

        ideal = partial(objects.put_parts, self.tree, name, parts, spec)
        self.both(f"upload {name!r} in {len(parts)} parts", call, lambda now: ideal(now))
