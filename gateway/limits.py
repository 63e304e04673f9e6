"""Bounds of the S3 door: of one request, of one connection, and of what many clients have on their way at once."""

from stratumfs.ids import GIB, KIB, MIB
from stratumfs.limits import (
    CONNECTIONS_MAX,
    HASH_INLINE,
    READAHEAD_STREAMS_MAX,
    READAHEAD_STRIPES,
    STRIPE_PAYLOAD_MAX,
    UNSYNCED_TOTAL_MAX,
)

REQUEST_HEADERS_MAX = 200
"""Headers of one S3 request, by number; their bytes are bounded by REQUEST_HEAD_MAX."""
REQUEST_HEAD_MAX = 64 * KIB
"""Bytes of request line and headers; S3 itself allows 8 KiB of headers, a presigned URL with metadata more."""
REQUEST_TARGET_MAX = 32 * KIB
"""Bytes of path and query string: a key of 1,024 bytes is up to 3 KiB percent-encoded, a token as much again."""
REQUEST_XML_MAX = 4 * MIB
"""Bytes of an XML request: 10,000 parts with two checksums each fit, and 1,000 keys to delete."""
REQUEST_XML_SETTING_MAX = 64 * KIB
"""Bytes of an XML request that says a setting or two: it is read on the loop, where 4 MiB would take half a second."""
REQUEST_WINDOW = 256 * KIB
"""Of one body over HTTP/2, that waits for its handler."""
REQUEST_DRAIN_MAX = 256 * KIB
"""Unread body that is read and dropped, so that the client sees the error before the connection ends."""
REQUEST_DRAIN_S = 1.0
RECEIVE_MAX = 64 * KIB
"""Bytes that are taken from a connection at once where they are not received straight into a stripe."""
SEND_JOINED_MAX = 64 * KIB
"""An answer up to this long goes out with its head in one call."""
CONNECTION_IDLE_S = 75.0
"""Between two requests; longer than SDKs keep an idle connection, so that they close it and do not trip over it."""
SHUTDOWN_GRACE_S = 10.0
"""For requests under way when the door closes."""
ANSWER_IDLE_S = 60.0
"""An answer that the client does not take for so long is given up."""
BODY_WINDOW_S = 30.0
BODY_WINDOW_MIN = 30 * KIB
"""A body that brings less than this while BODY_WINDOW_S are spent waiting for it is given up."""
HASH_BATCH = 512 * KIB
"""Bytes of a body that are hashed at once, in a thread; below HASH_INLINE on the loop (a hop costs 40 µs)."""
HASH_BATCH_EVENTS = 1024
"""So many chunk borders make a batch too, however little lies between them."""
HASH_THREADS = 4
CHUNK_HEADER_MAX = 1 * KIB
"""Bytes of the line before an aws-chunked chunk."""
CHUNK_MIN = 8 * KIB
SMALL_CHUNKS_MAX = 10_000
"""Chunks of one body below CHUNK_MIN. S3 allows one; SDKs on pipes send some; a flood of them costs time."""
TRAILERS_MAX = 8 * KIB
SIGNING_KEYS_MAX = 256
UPLOADS_MAX, DOWNLOADS_MAX = 400, 500
"""Bodies of more than a piece, through one door: each holds a stripe for as long as its client likes.

With 400 downloads that stood still an owner had 560 MiB, with 250 uploads 350 MiB.
"""
TURN_WAIT_S = 30.0
"""For one of these; then a client is asked to come again."""
ENCRYPTED_MAX = 256 * KIB
"""Of an answer, at once: what TLS makes of it is held twice until the client has taken it."""

assert REQUEST_TARGET_MAX < REQUEST_HEAD_MAX
assert CONNECTIONS_MAX * REQUEST_HEAD_MAX <= 256 * MIB
assert HASH_INLINE < HASH_BATCH
assert UPLOADS_MAX + DOWNLOADS_MAX < CONNECTIONS_MAX
assert (
    UNSYNCED_TOTAL_MAX + STRIPE_PAYLOAD_MAX * (UPLOADS_MAX + DOWNLOADS_MAX + READAHEAD_STRIPES * READAHEAD_STREAMS_MAX)
    <= 1 * GIB
)
