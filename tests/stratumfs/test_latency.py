"""Histograms of our own say what the Prometheus client's own ones say."""

from prometheus_client import Histogram

from stratumfs.latency import BOUNDS_S, Latencies


def test_what_is_observed_falls_into_the_buckets_of_the_client() -> None:
    ours = Latencies("call")
    theirs = Histogram("seconds", "of a test", ["call"], buckets=BOUNDS_S, registry=None)
    for value, seconds in (("a", 0.0), ("b", 0.0001), ("a", 0.00011), ("a", 100.0), ("b", 1000.0), ("a", 0.05)):
        ours.observe(value, seconds)
        theirs.labels(value).observe(seconds)
    [metric] = theirs.collect()
    expected = [
        (sample.name.removeprefix("seconds"), sample.labels, sample.value)
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]
    assert list(ours.samples()) == expected
