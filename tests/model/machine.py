"""Operations through both doors of a real store, drawn by Hypothesis, beside the reference after every step.

One store serves many examples, each in a bucket of its own. What is drawn are small numbers; they pick among what the
reference has at that moment, so that a failing program stays one while Hypothesis makes it shorter.
"""

from collections.abc import Callable
from functools import partial

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.by_handle import ByHandle
from tests.model.by_mount import ByMount
from tests.model.by_s3 import ByS3
from tests.model.nodes import Spec
from tests.model.world import World


class BothDoors(ByMount, ByHandle, ByS3):
    """Rules of both doors together."""

    def furnishing(self) -> list[Callable[[], None]]:
        return [
            partial(self.put, b"a", 5, 0, Spec()),
            partial(self.put, b"a/b", 70_000, 1, Spec(metadata=(("colour", "green"),))),
            partial(self.create, 0, b"c", 16_385, 2, 0o644),
            partial(self.put, b"b/../x", 4096, 3, Spec()),
            partial(self.create, 1, b"\xff", 5, 4, 0o600),
            partial(self.mkdir, 0, b"_-_x", 0o755),
            partial(self.symlink, 1, b"b", b"a"),
            partial(self.link, 2, b"c", 0),
            partial(self.put, b"b/c/", 1, 5, Spec(content_type="text/x-test")),
        ]


def run_examples(world: World, examples: int, steps: int, seeded: int | None = None) -> None:
    """Raises: AssertionError with the shortest program that Hypothesis found to fail."""
    machine = type("BothDoors", (BothDoors,), {"world": world})
    if seeded is not None:
        machine = seed(seeded)(machine)
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)
