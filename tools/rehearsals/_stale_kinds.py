"""Kinds of change: each makes what there is to be changed, yields so that it can be looked at, and changes it."""

import mmap
import os
from collections.abc import Callable, Iterator

from tools.rehearsals._s3 import PART
from tools.rehearsals._stale_scene import Scene

Kind = Callable[[Scene], Iterator[None]]


def _make(scene: Scene, key: str, size: int | None = None) -> bytes:
    """Through either door."""
    data = scene.data(size)
    if scene.rng.random() < 0.5 and scene.path(key).parent.is_dir():
        return scene.write(key, data)
    return scene.put(key, data)


# Through S3


def overwritten_with_the_same_size(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    yield
    scene.put(scene.top, scene.data(len(old)))


def overwritten_by_a_shorter_one(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    yield
    scene.put(scene.top, scene.data(len(old) - 1))


def overwritten_by_a_longer_one(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    yield
    scene.put(scene.top, scene.data(len(old) + scene.rng.randrange(1, 100_000)))


def overwritten_by_an_upload_in_parts(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    data = scene.data()
    scene.s3.upload(scene.bucket, scene.top, [data])
    scene.set(scene.top, data)


def overwritten_by_a_large_upload(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    if scene.rng.random() < 0.95:  # it takes as long as twenty others
        scene.put(scene.top)
        return
    parts = [scene.data(PART), scene.data()]
    scene.s3.upload(scene.bucket, scene.top, parts)
    scene.set(scene.top, b"".join(parts))


def deleted(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    scene.delete(scene.top)


def deleted_and_made_anew(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    scene.delete(scene.top)
    scene.put(scene.top)


def deleted_many(scene: Scene) -> Iterator[None]:
    keys = [f"{scene.top}/d/{number}" for number in range(4)]
    for key in keys:
        _make(scene, key)
    yield
    scene.s3.delete_many(scene.bucket, keys[1:])
    for key in keys[1:]:
        del scene.keys[key]


def replaced_by_a_copy(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    data = _make(scene, f"{scene.top}.source")
    yield
    scene.s3.copy(scene.bucket, f"{scene.top}.source", scene.top)
    scene.set(scene.top, data)


def metadata_replaced(scene: Scene) -> Iterator[None]:
    """A copy onto itself."""
    data = _make(scene, scene.top)
    yield
    scene.s3.copy(scene.bucket, scene.top, scene.top, {"turn": "next"})
    scene.set(scene.top, data)
    assert os.getxattr(scene.path(scene.top), "user.s3.meta.turn") == b"next"


def last_sibling_deleted(scene: Scene) -> Iterator[None]:
    """Directories that only keys implied vanish with the last of them."""
    key = f"{scene.top}/d/e/only"
    scene.put(key)
    yield
    scene.delete(key)


def last_but_one_deleted(scene: Scene) -> Iterator[None]:
    scene.put(f"{scene.top}/stays")
    scene.put(f"{scene.top}/d/goes")
    yield
    scene.delete(f"{scene.top}/d/goes")


def a_missing_name_appears(scene: Scene) -> Iterator[None]:
    assert not scene.path(scene.top).exists()
    yield
    scene.put(scene.top)


def missing_directories_appear(scene: Scene) -> Iterator[None]:
    assert not scene.path(f"{scene.top}/d/e").exists()
    yield
    scene.put(f"{scene.top}/d/e/f")


def a_sibling_appears(scene: Scene) -> Iterator[None]:
    scene.put(f"{scene.top}/one")
    yield
    scene.put(f"{scene.top}/two")


def a_directory_appears_beside_an_object(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    scene.put(f"{scene.top}/x")


def a_directory_beside_an_object_vanishes(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    scene.put(f"{scene.top}/x")
    yield
    scene.delete(f"{scene.top}/x")


def an_object_beside_a_directory_is_replaced(scene: Scene) -> Iterator[None]:
    scene.put(scene.top)
    scene.put(f"{scene.top}/x")
    yield
    scene.put(scene.top)


def an_object_beside_a_directory_goes(scene: Scene) -> Iterator[None]:
    scene.put(scene.top)
    scene.put(f"{scene.top}/x")
    yield
    scene.delete(scene.top)


def a_directory_of_the_mount_is_deleted(scene: Scene) -> Iterator[None]:
    scene.mkdir(scene.top)
    yield
    scene.delete(f"{scene.top}/")


def an_emptied_directory_is_deleted(scene: Scene) -> Iterator[None]:
    """Implied, then emptied by the mount, which makes it a key."""
    scene.put(f"{scene.top}/d/x")
    scene.path(f"{scene.top}/d/x").unlink()
    del scene.keys[f"{scene.top}/d/x"]
    scene.keys[f"{scene.top}/d/"] = b""
    yield
    scene.delete(f"{scene.top}/d/")


def a_directory_key_comes_and_goes(scene: Scene) -> Iterator[None]:
    assert not scene.path(f"{scene.top}/d").exists()
    scene.put(f"{scene.top}/", b"")
    yield
    scene.put(f"{scene.top}/d/", b"")
    scene.delete(f"{scene.top}/")


def one_of_two_links_is_replaced(scene: Scene) -> Iterator[None]:
    data, other = scene.write(scene.top), f"{scene.top}.link"
    os.link(scene.path(scene.top), scene.path(other))
    scene.keys[other] = data
    os.stat(scene.path(other))
    yield
    scene.put(scene.top)
    assert os.stat(scene.path(other)).st_nlink == 1


def a_symbolic_link_is_replaced(scene: Scene) -> Iterator[None]:
    os.symlink("nowhere", scene.path(scene.top))
    scene.linked = True
    yield
    scene.put(scene.top)
    scene.linked = False


def renamed_by_the_mount_and_replaced(scene: Scene) -> Iterator[None]:
    """The kernel has never asked for the new name."""
    data, new = _make(scene, scene.top), f"{scene.top}.new"
    os.rename(scene.path(scene.top), scene.path(new))
    del scene.keys[scene.top]
    scene.keys[new] = data
    yield
    scene.put(new)


BY_S3: tuple[Kind, ...] = (
    overwritten_with_the_same_size,
    overwritten_by_a_shorter_one,
    overwritten_by_a_longer_one,
    overwritten_by_an_upload_in_parts,
    overwritten_by_a_large_upload,
    deleted,
    deleted_and_made_anew,
    deleted_many,
    replaced_by_a_copy,
    metadata_replaced,
    last_sibling_deleted,
    last_but_one_deleted,
    a_missing_name_appears,
    missing_directories_appear,
    a_sibling_appears,
    a_directory_appears_beside_an_object,
    a_directory_beside_an_object_vanishes,
    an_object_beside_a_directory_is_replaced,
    an_object_beside_a_directory_goes,
    a_directory_of_the_mount_is_deleted,
    an_emptied_directory_is_deleted,
    a_directory_key_comes_and_goes,
    one_of_two_links_is_replaced,
    a_symbolic_link_is_replaced,
    renamed_by_the_mount_and_replaced,
)


# Through the mount


def written_with_the_same_size(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    yield
    scene.write(scene.top, scene.data(len(old)))


def written_anew(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    scene.write(scene.top)


def appended(scene: Scene) -> Iterator[None]:
    old, more = _make(scene, scene.top), scene.data()
    yield
    with open(scene.path(scene.top), "ab") as file:
        file.write(more)
    scene.keys[scene.top] = old + more


def written_within_and_synced(scene: Scene) -> Iterator[None]:
    old, piece = _make(scene, scene.top, 50_000), scene.data(300)
    fd = os.open(scene.path(scene.top), os.O_RDWR)
    yield
    try:
        os.pwrite(fd, piece, 20_000)
        os.fsync(fd)
        scene.keys[scene.top] = old[:20_000] + piece + old[20_300:]
    finally:
        scene.closing.append(fd)


def truncated(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    size = scene.rng.randrange(len(old))
    yield
    os.truncate(scene.path(scene.top), size)
    scene.keys[scene.top] = old[:size]


def truncated_to_more(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top)
    yield
    os.truncate(scene.path(scene.top), len(old) + 5000)
    scene.keys[scene.top] = old + bytes(5000)


def truncated_through_another_handle(scene: Scene) -> Iterator[None]:
    """And grown again, so that what lay behind must be zeros."""
    old = _make(scene, scene.top, 20_000)
    one, other = (os.open(scene.path(scene.top), os.O_RDWR) for _ in range(2))
    scene.closing += [one, other]
    os.pwrite(one, b"pending", 0)
    yield
    os.ftruncate(other, 3000)
    os.ftruncate(other, 9000)
    os.fsync(one)
    scene.keys[scene.top] = (b"pending" + old[7:3000]).ljust(9000, b"\0")


def unlinked(scene: Scene) -> Iterator[None]:
    scene.mkdir(scene.top)
    _make(scene, f"{scene.top}/f")
    yield
    os.unlink(scene.path(f"{scene.top}/f"))
    del scene.keys[f"{scene.top}/f"]


def unlinked_and_made_anew(scene: Scene) -> Iterator[None]:
    _make(scene, scene.top)
    yield
    os.unlink(scene.path(scene.top))
    scene.write(scene.top)


def the_last_of_an_implied_directory_unlinked(scene: Scene) -> Iterator[None]:
    scene.put(f"{scene.top}/d/f")
    yield
    os.unlink(scene.path(f"{scene.top}/d/f"))
    del scene.keys[f"{scene.top}/d/f"]
    scene.keys[f"{scene.top}/d/"] = b""


def renamed(scene: Scene) -> Iterator[None]:
    data = _make(scene, scene.top)
    yield
    os.rename(scene.path(scene.top), scene.path(f"{scene.top}.new"))
    scene.keys[f"{scene.top}.new"] = data
    del scene.keys[scene.top]


def renamed_over_another(scene: Scene) -> Iterator[None]:
    data = _make(scene, f"{scene.top}.new")
    _make(scene, scene.top)
    yield
    os.rename(scene.path(f"{scene.top}.new"), scene.path(scene.top))
    scene.keys[scene.top] = data
    del scene.keys[f"{scene.top}.new"]


def renamed_into_another_directory(scene: Scene) -> Iterator[None]:
    scene.mkdir(scene.top)
    data = _make(scene, f"{scene.top}.f")
    yield
    os.rename(scene.path(f"{scene.top}.f"), scene.path(f"{scene.top}/f"))
    scene.keys[f"{scene.top}/f"] = data
    del scene.keys[f"{scene.top}.f"]


def a_parent_renamed(scene: Scene) -> Iterator[None]:
    for key in ("a", "d/b", "d/e/c"):
        _make(scene, f"{scene.top}/{key}")
    yield
    old, new = f"{scene.top}/", f"{scene.top}.moved/"
    os.rename(scene.path(scene.top), scene.path(f"{scene.top}.moved"))
    for key in [key for key in scene.keys if key.startswith(old)]:
        scene.keys[new + key.removeprefix(old)] = scene.keys.pop(key)
    scene.keys[new] = b""


def a_parent_renamed_and_back(scene: Scene) -> Iterator[None]:
    _make(scene, f"{scene.top}/d/f")
    yield
    os.rename(scene.path(scene.top), scene.path(f"{scene.top}.moved"))
    os.rename(scene.path(f"{scene.top}.moved"), scene.path(scene.top))
    scene.keys[f"{scene.top}/"] = b""


def linked(scene: Scene) -> Iterator[None]:
    data = _make(scene, scene.top)
    yield
    os.link(scene.path(scene.top), scene.path(f"{scene.top}.link"))
    scene.keys[f"{scene.top}.link"] = data


def written_through_a_link(scene: Scene) -> Iterator[None]:
    scene.write(scene.top)
    os.link(scene.path(scene.top), scene.path(f"{scene.top}.link"))
    scene.keys[f"{scene.top}.link"] = scene.keys[scene.top]
    yield
    scene.keys[scene.top] = scene.write(f"{scene.top}.link")


def a_directory_made(scene: Scene) -> Iterator[None]:
    yield
    scene.mkdir(scene.top)


def a_directory_removed(scene: Scene) -> Iterator[None]:
    scene.mkdir(scene.top)
    yield
    os.rmdir(scene.path(scene.top))
    del scene.keys[f"{scene.top}/"]


def replaced_by_a_symbolic_link(scene: Scene) -> Iterator[None]:
    """Which is no object."""
    _make(scene, scene.top)
    yield
    os.symlink("nowhere", scene.path(f"{scene.top}.new"))
    os.rename(scene.path(f"{scene.top}.new"), scene.path(scene.top))
    del scene.keys[scene.top]
    scene.linked = True


def written_through_a_mapping(scene: Scene) -> Iterator[None]:
    old = _make(scene, scene.top, 20_000)
    fd = os.open(scene.path(scene.top), os.O_RDWR)
    scene.closing.append(fd)
    yield
    with mmap.mmap(fd, 0) as mapped:
        mapped[5000:5010] = b"mapped it!"
        mapped.flush()
    os.fsync(fd)
    scene.keys[scene.top] = old[:5000] + b"mapped it!" + old[5010:]


BY_MOUNT: tuple[Kind, ...] = (
    written_with_the_same_size,
    written_anew,
    appended,
    written_within_and_synced,
    truncated,
    truncated_to_more,
    truncated_through_another_handle,
    unlinked,
    unlinked_and_made_anew,
    the_last_of_an_implied_directory_unlinked,
    renamed,
    renamed_over_another,
    renamed_into_another_directory,
    a_parent_renamed,
    a_parent_renamed_and_back,
    linked,
    written_through_a_link,
    a_directory_made,
    a_directory_removed,
    replaced_by_a_symbolic_link,
    written_through_a_mapping,
)
