"""What an object is, in sixteen classes, as far as its name or its declared type tells.

The forecast holds objects of one kind for alike while nothing better is known of them: videos are read otherwise than
logs. What is wrong here costs a worse first guess, and nothing else.
"""

import mimetypes

KINDS = ("unknown", "text", "code", "markup", "document", "image", "audio", "video", "archive", "data", "database",
         "model", "program", "font", "message", "other")  # fmt: skip
_MAIN = {"image": "image", "audio": "audio", "video": "video", "font": "font", "message": "message", "text": "text"}
_SUB = {
    "application/pdf": "document",
    "application/msword": "document",
    "application/rtf": "document",
    "application/json": "data",
    "application/xml": "markup",
    "text/html": "markup",
    "text/xml": "markup",
    "text/csv": "data",
    "text/css": "code",
    "text/javascript": "code",
    "application/javascript": "code",
    "application/zip": "archive",
    "application/x-tar": "archive",
    "application/gzip": "archive",
    "application/x-bzip2": "archive",
    "application/x-xz": "archive",
    "application/x-7z-compressed": "archive",
    "application/vnd.sqlite3": "database",
    "application/x-sh": "code",
    "application/octet-stream": "unknown",
}
_SUFFIXES = {
    "py": "code", "c": "code", "h": "code", "cc": "code", "cpp": "code", "rs": "code", "go": "code", "java": "code",
    "ts": "code", "rb": "code", "log": "text", "md": "text", "sqlite": "database", "db": "database", "parquet": "data",
    "orc": "data", "avro": "data", "npy": "data", "h5": "data", "onnx": "model", "safetensors": "model", "pt": "model",
    "gguf": "model", "zst": "archive", "xz": "archive", "iso": "archive", "deb": "program", "rpm": "program",
    "exe": "program", "so": "program", "mkv": "video", "webm": "video", "flac": "audio", "heic": "image",
}  # fmt: skip


def kind_of(name: bytes, content_type: str | None) -> int:
    """Index into `KINDS`; what the writer declared comes before the name, where it says anything."""
    text = name.decode("utf-8", "replace")
    for mime in (_bare(content_type), mimetypes.guess_type(text)[0]):
        if mime is not None and (found := of_mime(mime)):
            return found
    return KINDS.index(_SUFFIXES.get(text.rpartition(".")[2].lower(), "unknown"))


def of_mime(mime: str) -> int:
    """Index into `KINDS` of a type without parameters."""
    known = _SUB.get(mime) or _MAIN.get(mime.partition("/")[0])
    if known is None:
        known = "document" if "document" in mime or "office" in mime else "other"
    return KINDS.index(known)


def _bare(content_type: str | None) -> str | None:
    return content_type.partition(";")[0].strip().lower() if content_type else None
