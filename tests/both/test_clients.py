"""The rehearsal with client programs in short form; ``tools/rehearse clients`` has all of them, and a gibibyte."""

import pytest

from tests.doors import Doors
from tools.rehearsals._clients import Boto3, Client, S5cmd
from tools.rehearsals.clients import Rehearsal

SIZE = 24_000_001


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
@pytest.mark.parametrize("kind", [Boto3, S5cmd], ids=lambda kind: kind.name)
def test_what_a_client_does_is_seen_through_the_mount(shared_doors: Doors, kind: type[Client]) -> None:
    Rehearsal(shared_doors, SIZE, 1).run(kind)
