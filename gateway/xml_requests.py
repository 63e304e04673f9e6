"""Requests in S3's XML, read strictly: no entities, no network, no document type, bounded.

Reading is quick enough for the loop up to some 1,000 elements; ``parse_complete`` of 10,000 parts takes 13 ms and
belongs in a thread (all functions here are pure).
"""

from dataclasses import dataclass

from lxml import etree

from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.xml import NAMESPACE
from stratumfs.limits import DELETE_MAX, PARTS_MAX, RESTORE_DAYS_MAX
from stratumfs.values import Checksum, CompletedPart

_CHECKSUMS = {algorithm.element: algorithm for algorithm in Algorithm}


@dataclass(frozen=True, slots=True)
class ToDelete:
    """One entry of DeleteObjects. etag, modified and size: conditions as sent; None if there is none."""

    key: bytes
    version_id: str | None = None
    etag: str | None = None
    modified: str | None = None
    size: str | None = None


def parse_create_bucket(body: bytes) -> str | None:
    """The region of a CreateBucketConfiguration; None if the body is empty or names none.

    Raises: S3Error MalformedXML; NotImplemented for tags and for buckets of other kinds.
    """
    if not body.strip():
        return None
    texts = _texts(_root(body, "CreateBucketConfiguration"))
    if unknown := texts.keys() - {"LocationConstraint"}:
        raise S3Error("NotImplemented", f"{min(unknown)} of CreateBucketConfiguration is not implemented.")
    return texts.get("LocationConstraint") or None


def parse_versioning(body: bytes) -> str | None:
    """Status of a VersioningConfiguration. Raises: S3Error MalformedXML."""
    status = _texts(_root(body, "VersioningConfiguration")).get("Status")
    if status not in (None, "Enabled", "Suspended"):
        raise S3Error("MalformedXML")
    return status


def parse_restore(body: bytes) -> int:
    """Days of a RestoreRequest. How quickly the bytes are to come is no choice: at once.

    Raises: S3Error MalformedXML; NotImplemented for a selection.
    """
    texts = _texts(_root(body, "RestoreRequest"))
    if unknown := texts.keys() & {"Type", "SelectParameters", "OutputLocation"}:
        raise S3Error("NotImplemented", f"{min(unknown)} of RestoreRequest is not implemented.")
    days = texts.get("Days", "").strip()
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:9]) <= RESTORE_DAYS_MAX):
        raise S3Error("MalformedXML")
    return int(days)


def parse_delete(body: bytes) -> tuple[list[ToDelete], bool]:
    """Entries of a Delete, and whether it is quiet. Raises: S3Error MalformedXML, also for none or more than 1,000."""
    root = _root(body, "Delete")
    entries: list[ToDelete] = []
    for child in root:
        if _name(child) == "Object":
            if len(entries) == DELETE_MAX:
                raise S3Error("MalformedXML")
            entries.append(_to_delete(_texts(child)))
    if not entries:
        raise S3Error("MalformedXML")
    return entries, _texts(root).get("Quiet", "").strip().lower() == "true"


def _to_delete(texts: dict[str, str]) -> ToDelete:
    key = texts.get("Key")
    if not key:
        raise S3Error("MalformedXML")
    return ToDelete(
        key=key.encode(),
        version_id=texts.get("VersionId") or None,
        etag=texts.get("ETag"),
        modified=texts.get("LastModifiedTime"),
        size=texts.get("Size"),
    )


def parse_complete(body: bytes) -> list[CompletedPart]:
    """Parts of a CompleteMultipartUpload, in the order listed; ETags without quotes.

    Raises: S3Error MalformedXML, also for none or more than 10,000.
    """
    root = _root(body, "CompleteMultipartUpload")
    parts: list[CompletedPart] = []
    for child in root:
        if _name(child) != "Part" or len(parts) == PARTS_MAX:
            raise S3Error("MalformedXML")
        parts.append(_part(_texts(child)))
    if not parts:
        raise S3Error("MalformedXML")
    return parts


def _part(texts: dict[str, str]) -> CompletedPart:
    number, etag = texts.get("PartNumber", "").strip(), texts.get("ETag")
    if etag is None or not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise S3Error("MalformedXML")
    return CompletedPart(int(number), etag.strip().strip('"'), _checksum(texts))


def _checksum(texts: dict[str, str]) -> Checksum | None:
    found = [(algorithm, texts[element]) for element, algorithm in _CHECKSUMS.items() if texts.get(element)]
    if len(found) > 1:
        raise S3Error("MalformedXML")
    return Checksum(found[0][0].value, found[0][1].strip()) if found else None


def _root(body: bytes, name: str) -> etree._Element:
    """The root element, which must be *name*; of S3's namespace or of none, as clients send both."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise S3Error("MalformedXML") from None
    # A document type is of no use to S3, and its entities are of use to attackers alone.
    if root.getroottree().docinfo.internalDTD is not None or _name(root) != name:
        raise S3Error("MalformedXML")
    return root


def _name(element: etree._Element) -> str:
    tag = str(element.tag)
    return tag.removeprefix(f"{{{NAMESPACE}}}")


def _texts(element: etree._Element) -> dict[str, str]:
    """Text of each child by name. Raises: S3Error MalformedXML if one repeats that must not."""
    texts: dict[str, str] = {}
    for child in element:
        name = _name(child)
        if name in texts and name != "Object":
            raise S3Error("MalformedXML")
        texts[name] = child.text or ""
    return texts
