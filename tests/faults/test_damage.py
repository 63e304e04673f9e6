"""Up to m damaged shards of a volume, of any cells and in any ways, are read around, found and mended; of m+1 is said
that they are lost, and no wrong byte is served.

Here each two ways together, and all choices of cells; every two ways of every two cells in ``tools/rehearse damage``.
"""

import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import SEED
from tests.faults.damage import Case, Shelf, covering_cases, losing_cases
from tests.faults.damaged import Damaged, Missed, made
from tests.faults.place import fast_place

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


CASES = covering_cases(random.Random(SEED))


@pytest.fixture(scope="module")
def damaged() -> Iterator[Damaged]:
    with fast_place() as folder:
        yield made(folder, len(CASES))


def test_damage_of_any_two_cells_is_found_by_the_scrubber_and_mended(damaged: Damaged) -> None:
    damaged.scrubbed(CASES)


def test_damage_of_any_two_cells_is_read_around_through_both_doors_and_mended(damaged: Damaged) -> None:
    damaged.read_through_doors(CASES)


def test_damage_of_one_cell_more_is_an_error_and_never_a_wrong_byte(damaged: Damaged) -> None:
    damaged.refused(losing_cases(random.Random(SEED)))


def test_the_look_notices_what_is_not_found(damaged: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "damage", lambda *_: None)
    with pytest.raises(Missed, match="were not found"):
        damaged.scrubbed([Case({0: "deleted"})])
