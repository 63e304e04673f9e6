"""How long things take, in the shape in which Prometheus wants to be told."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.utils import floatToGoString

BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_LABELS = (*map(floatToGoString, BOUNDS_S), "+Inf")


class Latencies:
    """Histograms by the value of one label. May be told from threads.

    They are in no registry: who collects them says what they are of, and there may be many of the same. By hand, for
    each request tells of itself: the client's own histogram takes four times as long.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._lock = threading.Lock()
        self._found: dict[str, tuple[list[int], list[float]]] = {}  # how many fell into each bucket; their sum

    def observe(self, value: str, seconds: float) -> None:
        with self._lock:
            found = self._found.get(value)
            if found is None:
                found = self._found[value] = [0] * len(_LABELS), [0.0]
            found[0][bisect_left(BOUNDS_S, seconds)] += 1
            found[1][0] += seconds

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """What follows the histogram's name (``_bucket``, ``_sum``, ``_count``), labels, value."""
        with self._lock:
            found = [(value, tuple(counts), total) for value, (counts, (total,)) in self._found.items()]
        for value, counts, total in found:
            own = {self._label: value}
            for bound, count in zip(_LABELS, accumulate(counts), strict=True):
                yield "_bucket", {**own, "le": bound}, float(count)
            yield "_count", own, float(sum(counts))
            yield "_sum", own, total
