"""The collector of cycles looks seldom, and looks."""

import subprocess
import sys

_CYCLES = """
import gc, weakref
from stratumfs.owner.garbage import collect_rarely

class Cycle:
    def __init__(self):
        self.me = self

collect_rarely()
before = gc.get_stats()[0]["collections"]
page = [(number,) for number in range(1000)]
print(gc.get_stats()[0]["collections"] - before)

alive = weakref.WeakSet()
for _ in range(100_000):
    alive.add(Cycle())
print(len(alive))
"""


def test_a_page_of_a_listing_begins_no_collection_and_cycles_are_collected() -> None:
    done = subprocess.run([sys.executable, "-c", _CYCLES], capture_output=True, text=True, check=True)
    begun, left = map(int, done.stdout.split())
    assert begun == 0
    assert left < 50_000
