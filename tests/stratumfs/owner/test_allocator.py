"""Freed buffers are used again."""

import subprocess
import sys

_FAULTS = """
import resource, threading
from stratumfs.owner.allocator import keep_freed_memory

keep_freed_memory()

def fill(times):
    for _ in range(times):
        kept = [bytearray(1 << 20) for _ in range(4)]

def faults(target):
    threads = [threading.Thread(target=fill, args=(target,))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads[0].start()
    threads[0].join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(4)
print(faults(100))
"""


def test_buffers_that_come_and_go_touch_no_fresh_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    pages = 100 * 4 * 256
    assert int(done.stdout) < pages // 10
