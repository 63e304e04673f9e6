"""Who makes a request, once the gate knows."""

from typing import Protocol

import msgspec

from gateway.auth.body import Body


class CredentialStore(Protocol):
    def secret(self, access_key: str) -> str | None:
        """The secret of *access_key*; None if there is no such key. In memory: called on the loop at each request."""
        ...


class Principal(msgspec.Struct, frozen=True):
    """The identity behind a signature."""

    access_key: str


class Authenticated(msgspec.Struct, frozen=True):
    """What only the gate makes: the caller, and the body of the request."""

    principal: Principal
    body: Body
