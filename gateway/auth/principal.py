"""Who makes a request, once the gate knows."""

from dataclasses import dataclass
from typing import Protocol

from gateway.auth.body import Body


class CredentialStore(Protocol):
    def secret(self, access_key: str) -> str | None:
        """The secret of *access_key*; None if there is no such key. In memory: called on the loop at each request."""
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity behind a signature."""

    access_key: str


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What only the gate makes: the caller, and the body of the request."""

    principal: Principal
    body: Body
