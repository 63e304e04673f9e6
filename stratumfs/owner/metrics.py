"""What Prometheus is told of a running store, read from its parts when it asks. stratumfs-metrics(7) lists the series.

Nothing is counted here, so that nothing is counted twice: each part counts what it does, and says so. It is read on
the loop, in between two steps of whatever goes on, and no part is asked anything that could block.
"""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from stratumfs.devices.health import DeviceState
from stratumfs.fuse.session import Mounted
from stratumfs.latency import Latencies
from stratumfs.limits import BUCKETS_MEASURED_MAX, COMMITS_WAITING_MAX
from stratumfs.owner.doors import Doors
from stratumfs.owner.gateway_door import OpenedGateway
from stratumfs.owner.wire import Running
from tiering.engine import Engine

_PREFIX = "stratumfs_"
_PERHAPS = ("unexpected", "data_errors", "read_bytes", "written_bytes")
Labelled = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, and the value."""


class StoreCollector(Collector):
    """Of one owner's store and doors."""

    def __init__(self, running: Running, doors: Doors) -> None:
        self._running, self._store, self._doors = running, running.store, doors

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("stratumfs", "Which store this is.", {"store": self._store.id.hex()})
        yield from self._state()
        yield from self._gateways()
        yield from self._mounts()
        yield from self._catalog()
        yield from self._volumes()
        yield from self._devices()
        yield from self._remotes()
        yield from self._work()
        yield from self._usage()
        yield from self._tiers()

    def _state(self) -> Iterator[Metric]:
        store, doors = self._store, Counter(str(door.kind) for door in self._doors)
        waits = bool(store.fleet.waiting or store.catalog.waiting)
        yield _gauge("read_only", "1 if nothing is written; `stratumfs status` says why.", store.read_only is not None)
        yield _gauge("writes_waiting", "1 if writes wait for devices, or for places of the catalog.", waits)
        yield _gauges("doors", "That are open.", ["kind"], (([kind], number) for kind, number in doors.items()))

    def _gateways(self) -> Iterator[Metric]:
        found = [(each.opened.where[0], each.opened) for each in self._doors if isinstance(each.opened, OpenedGateway)]
        counted = [(where, each.door.statistics()) for where, each in found]

        def of_each(field: str) -> Labelled:
            return (([where], getattr(each, field)) for where, each in counted)

        requests = (
            ([where, name, str(status)], number)
            for where, each in counted
            for (name, status), number in each.requests.items()
        )
        text = "By operation (- if none was made out) and status (0 if nothing was answered)."
        yield _counters("s3_requests", text, ["door", "operation", "status"], requests)
        yield _histograms(
            "s3_request_seconds",
            "From a request's head to the end of its answer.",
            (({"door": where}, each.door.seconds) for where, each in found),
        )
        yield _counters("s3_received_bytes", "Of bodies.", ["door"], of_each("received_bytes"))
        yield _counters("s3_sent_bytes", "Of bodies.", ["door"], of_each("sent_bytes"))
        yield _counters("s3_errors", "Not foreseen; the log has each.", ["door"], of_each("unexpected_errors"))
        yield _counters("s3_connections_lost", "Clients gone within an answer.", ["door"], of_each("connections_lost"))
        yield _gauges("s3_requests_in_flight", "Under way.", ["door"], of_each("in_flight"))
        waiting = (
            ([where, way], turns.waiting)
            for where, each in found
            for way, turns in (("in", each.service.uploads), ("out", each.service.downloads))
        )
        yield _gauges("s3_bodies_waiting", "For a turn.", ["door", "way"], waiting)

    def _mounts(self) -> Iterator[Metric]:
        found = [(each.opened.where[0], each.opened) for each in self._doors if isinstance(each.opened, Mounted)]
        counted = [(where, each.details()) for where, each in found]

        def of_each(*fields: str) -> Labelled:
            return (([where], sum(_of(each, field) for field in fields)) for where, each in counted)

        refused = (
            ([where, name, errno.errorcode.get(number, str(number))], count)
            for where, each in found
            for (name, number), count in each.refusals.items()
        )
        yield _histograms(
            "fuse_request_seconds",
            "Of each request of the kernel that Python answers.",
            (({"door": where}, each.seconds) for where, each in found),
        )
        yield _counters("fuse_refusals", "Requests answered with an error.", ["door", "call", "errno"], refused)
        yield _counters("fuse_read_bytes", "That the kernel asked for.", ["door"], of_each("read_bytes"))
        yield _counters("fuse_written_bytes", "That the kernel handed over.", ["door"], of_each("written_bytes"))
        yield _counters(
            "fuse_errors", "Not foreseen, or of data; in the log.", ["door"], of_each("unexpected", "data_errors")
        )
        yield _counters("fuse_late_errors", "Of publications behind close(2).", ["door"], of_each("late_errors"))
        yield _counters("fuse_invalidations", "That the kernel was told.", ["door"], of_each("invalidations"))
        text = "That it took longer for than anybody waits."
        yield _counters("fuse_invalidations_late", text, ["door"], of_each("invalidations_late"))
        yield _gauges("fuse_pending_bytes", "Written, and not published yet.", ["door"], of_each("pending_bytes"))
        yield _gauges("fuse_open_files", "Handles.", ["door"], of_each("open_files"))

    def _catalog(self) -> Iterator[Metric]:
        found = self._store.catalog.statistics()
        rounds = found.rounds
        yield SummaryMetricFamily(
            _PREFIX + "catalog_round_seconds",
            "That all members took to hold a round: the group commit of whoever waits.",
            count_value=rounds.rounds,
            sum_value=rounds.hold_s,
        )
        yield _commits(rounds.batches, rounds.commits)
        yield _gauge("catalog_waiting", "Who waits for a round.", found.waiting)
        yield _gauge("catalog_unsynced_transactions", "Committed, and not in a round yet.", found.unsynced)
        yield _gauge("catalog_wal_bytes", "Since the last checkpoint.", found.wal_bytes)
        yield _counter("catalog_checkpoints", "That were made.", found.checkpoints)
        yield _counter("catalog_checkpoints_put_off", "Begun, and left for later.", found.checkpoints_put_off)

    def _volumes(self) -> Iterator[Metric]:
        read, writers = self._store.volume_reader.statistics(), self._store.writers
        written = {tier: writer.volumes.statistics() for tier, writer in writers.items()}

        def of_each(field: str) -> Labelled:
            return (([tier], each[field]) for tier, each in written.items())

        yield _counters("stripes_encoded", "And appended.", ["tier"], of_each("stripes_encoded"))
        yield _counters("encoded_bytes", "Payload of them.", ["tier"], of_each("encoded_bytes"))
        yield _counters("shard_bytes", "That they became, headers and parity too.", ["tier"], of_each("shard_bytes"))
        yield _gauges("volumes_open", "That are appended to.", ["tier"], of_each("volumes_open"))
        yield _counter("cells_verified", "Read from devices, and found to be what was written.", read["cells_verified"])
        yield _counter("stripes_decoded", "Because a cell was missing, bad, or late.", read["stripes_decoded"])
        yield _counter("cell_cache_hits", "Cells that were there.", read["cell_hits"])
        yield _counter("cell_cache_misses", "Cells that were not.", read["cell_misses"])
        yield _gauge("cell_cache_bytes", "In it.", read["cache_bytes"])
        spaces = {tier: writer.space.now for tier, writer in writers.items()}
        free, total = ((([tier], getattr(each, field)) for tier, each in spaces.items()) for field in ("free", "total"))
        yield _gauges("usable_free_bytes", "Payload that fits.", ["tier"], free)
        yield _gauges("usable_bytes", "Payload that would fit if all were free.", ["tier"], total)

    def _devices(self) -> Iterator[Metric]:
        fleet = self._store.fleet
        entries = [(each.id, str(each.path), each.tier) for each in self._running.folders.identity.devices]
        here = [(path, fleet.devices[ident]) for ident, path, _ in entries if ident in fleet.devices]
        states = (
            ([path, tier, str(state)], fleet.state(ident)[0] is state)
            for ident, path, tier in entries
            for state in DeviceState
        )
        threads = (
            ([path, call], limiter.borrowed_tokens + limiter.statistics().tasks_waiting)
            for path, device in here
            for call, limiter in (("read", device.readers), ("write", device.writers))
        )
        yield _gauges("device_state", "1 for the state that it is in.", ["device", "tier", "state"], states)
        errors = (([path], fleet.errors(ident)) for ident, path, _ in entries)
        told = ((path, self._running.health.smart.get(ident)) for ident, path, _ in entries)
        smart = (([path], each.failing is not None) for path, each in told if each is not None)
        yield _counters("device_errors", "Reads that failed or hung.", ["device"], errors)
        yield _gauges("device_smart_failing", "1 if its disk says so; none if it says nothing.", ["device"], smart)
        yield _histograms(
            "device_call_seconds", "In its threads.", (({"device": path}, device.seconds) for path, device in here)
        )
        yield _gauges("device_calls", "Under way, and waiting for a thread.", ["device", "call"], threads)

    def _remotes(self) -> Iterator[Metric]:
        told = {tier: remote.statistics() for tier, remote in self._store.remotes.items()}
        refused = (([tier], remote.read_only is not None) for tier, remote in self._store.remotes.items())

        def of_each(field: str) -> Labelled:
            return (([tier], each[field]) for tier, each in told.items())

        yield _gauges("remote_read_only", "1 if nothing is written or deleted there.", ["tier"], refused)
        yield _counters("remote_reads", "Of the service.", ["tier"], of_each("reads"))
        yield _counters("remote_failures", "Of these.", ["tier"], of_each("failures"))
        recalled = of_each("recalled_bytes")
        yield _counters("remote_recalled_bytes", "By readers and moves, headers left out.", ["tier"], recalled)
        yield _counters("remote_recalled_usd", "By the price list.", ["tier"], of_each("recalled_usd"))
        yield _counters("remote_uploads", "Of volumes, verified.", ["tier"], of_each("uploads"))
        yield _counters("remote_uploaded_bytes", "That they had.", ["tier"], of_each("uploaded_bytes"))
        yield _counters("remote_deletes", "Of volumes.", ["tier"], of_each("deletes"))
        yield _gauges("remote_deletes_waiting", "For the service.", ["tier"], of_each("deletes_waiting"))
        damaged = of_each("damaged_volumes")
        yield _gauges("remote_damaged_volumes", "Whose object is damaged or missing.", ["tier"], damaged)
        yield _gauges("remote_unknown_objects", "That no row knows.", ["tier"], of_each("unknown_objects"))

    def _work(self) -> Iterator[Metric]:
        store, repairer, mender = self._store, self._store.repairer, self._store.catalog.mender
        works = (
            *repairer.works,
            store.packer.work,
            store.compactor.work,
            store.remote_compactor.work,
            store.defragmenter.work,
            store.scrubber.work,
        )
        under_way = [work for work in works if work is not None]
        yield _gauge("damaged_shards", "With a cell that was found bad, and not mended yet.", len(store.damaged))
        missing = sum(map(len, repairer.seen.missing.values()))
        yield _gauge("missing_shards", "Whose devices are up.", missing)
        yield _gauge("repair_queue", "Volumes that wait for repair.", len(repairer.queue))
        yield _gauge("repair_put_off", "Volumes whose repair was tried, and is again later.", len(repairer.put_off))
        count, left = Counter[str](), Counter[str]()
        for work in under_way:
            count[work.what] += 1
            left[work.what] += max(0, work.total - work.done)
        text = "Under way: rebuild, catch up, pack …"
        yield _gauges("work", text, ["what"], (([what], number) for what, number in count.items()))
        text = "That the work under way has still to move."
        yield _gauges("work_left_bytes", text, ["what"], (([what], number) for what, number in left.items()))
        scrubbed = store.scrubber.counts
        yield _counter("scrub_shards", "Read as a whole by the scrubber.", scrubbed.shards)
        yield _counter("scrub_bytes", "Of them.", scrubbed.bytes)
        yield _counter("scrub_bad_shards", "That it found damaged, or missing.", scrubbed.bad_shards)
        yield _counter("scrub_rows", "Of extents, that it held against their sums.", scrubbed.rows)
        yield _counter("rows_damaged", "Of the catalog, that failed their check, whoever met them.", mender.met)
        yield _counter("rows_restored", "Of them, from copies.", mender.restored)

    def _tiers(self) -> Iterator[Metric]:
        """Without values where the store has one tier, or the engine is off."""
        engine = self._running.tiers.engine
        names = engine.tiers if engine is not None else ()

        def of_each(value: Callable[[Engine, int], float]) -> Labelled:
            return (([name], value(engine, at)) for at, name in enumerate(names) if engine is not None)

        def of_it(value: Callable[[Engine], float]) -> float:
            return value(engine) if engine is not None else 0

        yield _gauges("tier_objects", "That lie there, or are to.", ["tier"], of_each(lambda e, at: e.policy.count(at)))
        yield _gauges("tier_bytes", "Of them.", ["tier"], of_each(lambda e, at: e.policy.used[at]))
        room = of_each(lambda e, at: e.policy.prices.tiers[at].capacity_bytes)
        yield _gauges("tier_capacity_bytes", "That may lie there.", ["tier"], room)
        waiting = of_each(lambda e, at: sum(each.target == at for each in e.plan.waiting))
        yield _gauges("tier_moves_waiting", "That are decided, by where to.", ["tier"], waiting)
        under_way = of_each(lambda e, at: sum(each.target == at for each in e.plan.under_way))
        yield _gauges("tier_moves_under_way", "By where to.", ["tier"], under_way)
        moved = of_each(lambda e, at: e.carrier.moved[e.tiers[at]])
        yield _counters("tier_moved_bytes", "By where to.", ["tier"], moved)
        yield _counter("tier_decisions", "To move an object.", of_it(lambda e: e.decided))
        lost = of_it(lambda e: e.reads_not_counted)
        yield _counter("tier_reads_not_counted", "For want of room until the engine's next look.", lost)
        recorder = self._running.tiers.recorder
        missed = recorder.lost if recorder is not None else 0
        yield _counter("tier_accesses_not_recorded", "For a replay: there were too many, or a disk failed.", missed)
        warming = of_it(lambda e: e.policy.warming(e.now()))
        yield _gauge("tier_warming", "1 while it observes, and moves nothing by preference.", warming)
        yield _gauge("tier_memory_bytes", "Of what is known of all objects.", of_it(lambda e: e.policy.nbytes))

    def _usage(self) -> Iterator[Metric]:
        counted = [*self._store.usage.buckets.items()][:BUCKETS_MEASURED_MAX]

        def of_each(field: str) -> Labelled:
            return (([name.decode("utf-8", "replace")], getattr(row, field)) for name, row in counted)

        yield _gauges(
            "bucket_objects", "As the last walk of all names has counted them.", ["bucket"], of_each("objects")
        )
        yield _gauges("bucket_bytes", "Sizes of them.", ["bucket"], of_each("bytes"))
        text = "When they were counted, in Unix seconds."
        times = (([name.decode("utf-8", "replace")], row.at_ns / 1e9) for name, row in counted)
        yield _gauges("bucket_counted_seconds", text, ["bucket"], times)


def ledger_metrics(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Of the ledger of durability, as `owner.durability` tells it."""
    yield _gauge("durability_green", "1 if every shard is there, and verified where it is sealed.", found["green"])
    yield _gauge("devices_survived", "Any so many may be lost now; negative: some is lost.", found["devices_survived"])
    yield _gauge("disks_survived", "Any so many may be lost now.", found["disks_survived"])
    yield _gauge("yearly_loss", "The probability that some data is lost within a year.", found["yearly_loss"])
    yield _gauge("shards", "Of volumes with data.", found["shards"])
    yield _gauge("shards_good", "Of them, there and not known to be damaged.", found["shards_good"])
    yield _gauge("shards_verified", "Of them, that the scrubber has read as a whole.", found["shards_verified"])
    yield _gauge("shards_not_sealed", "Of them, that are written to still.", found["shards_not_sealed"])
    oldest = GaugeMetricFamily(_PREFIX + "oldest_verified_seconds", "Since when all of these are, in Unix seconds.")
    if found["oldest_verified"] is not None:
        oldest.add_metric([], found["oldest_verified"])
    yield oldest


def _of(counted: Mapping[str, int], field: str) -> int:
    """What never happened was not counted."""
    return counted.get(field, 0) if field in _PERHAPS else counted[field]


def _commits(batches: Mapping[int, int], commits: int) -> Metric:
    """Of `RoundStatistics`: a batch of 4 stands for 4 to 7 commits. All bounds are there from the first time on, or the
    first rise of one would be seen by nobody."""
    buckets, count = list[tuple[str, float]](), 0
    for size in (0, *(1 << power for power in range(COMMITS_WAITING_MAX.bit_length()))):
        count += batches.get(size, 0)
        buckets.append((str(float(max(0, 2 * size - 1))), count))
    text = "Group commits: how many a round had."
    return HistogramMetricFamily(_PREFIX + "catalog_round_commits", text, [*buckets, ("+Inf", count)], commits)


def _histograms(name: str, text: str, found: Iterable[tuple[Mapping[str, str], Latencies]]) -> Metric:
    metric = Metric(_PREFIX + name, text, "histogram")
    for labels, latencies in found:
        for suffix, own, value in latencies.samples():
            metric.add_sample(_PREFIX + name + suffix, {**labels, **own}, value)
    return metric


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)


def _gauges(name: str, text: str, labels: Sequence[str], found: Labelled) -> Metric:
    return _filled(GaugeMetricFamily(_PREFIX + name, text, labels=labels), found)


def _counters(name: str, text: str, labels: Sequence[str], found: Labelled) -> Metric:
    return _filled(CounterMetricFamily(_PREFIX + name, text, labels=labels), found)


def _filled(metric: GaugeMetricFamily | CounterMetricFamily, found: Labelled) -> Metric:
    for labels, value in found:
        metric.add_metric(labels, value)
    return metric
