"""What a server and an application say to each other, and the extensions of it that ours have between them.

Source: the ASGI specification, HTTP 2.4.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
ReceiveInto = Callable[[memoryview], Awaitable[int]]
ReceivedInto = Callable[[memoryview], int]

RECEIVE_INTO = "stratum.receive_into"
"""An extension on HTTP/1.1: a ReceiveInto that puts the next bytes of the body into memory of the caller and returns
how many; 0 at the end. It takes the place of *receive*, of which each message is a copy more. Raises: EOFError if the
client ends first, or breaks its framing."""

RECEIVED_INTO = "stratum.received_into"
"""An extension beside it: the same, of what has come by now and without waiting for more; 0 if nothing has. The body
of a small PUT mostly comes with its head."""

CHECKED = "stratum.checked"
"""An extension on HTTP/1.1: names of headers are in lowercase, values without blanks at both ends; their number, the
framing of the body and the characters of the target were looked at. Of Host HTTP/1.0 may still have none."""

ABORT = "stratum.abort"
"""An extension on HTTP/2: a function that ends the connection at once. Where an answer is broken off, Hypercorn neither
resets the stream nor closes the connection, and the client would wait for ever."""
