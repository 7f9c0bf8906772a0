"""Numbers that are counted here and shown by the metrics library, which takes a lock and text of labels for each.

They are counted by one thread (the event loop's) and may be read by another. With several workers each number stands
in a file of the library's own kind as soon as it changes, so that those of a worker that is killed are not lost, but
for what happened in its last 20 ms (`deferred_events.py`).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.observe.metric_table import Kind, Metric

WORKERS_VARIABLE = "IMAGE_GATEWAY_INTERNAL_METRICS"
"""Our own, and not the library's `PROMETHEUS_MULTIPROC_DIR`, which is set where other programs use the library."""
WORKERS_DIR = os.environ.get(WORKERS_VARIABLE)
"""The workers' own directory, if there are several; read once."""

Labels = tuple[str, ...]
_Key = TypeVar("_Key")
_Series = TypeVar("_Series")
_REMEMBERED: Final = 1_000
"""Of names in events, whose series need not be looked for again; what events say is not bounded, labels are."""

FILES = {Kind.COUNTER: "counter", Kind.GAUGE: "gauge_livesum", Kind.HISTOGRAM: "histogram"}
"""How files begin; only living workers have requests in flight, so gauges of the dead are left out of the sum."""


class Number:
    """What one series of a counter or a gauge stands at; whoever counts adds to its `value`."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = value


class Distribution:
    """One series of a histogram: how many observations each bucket has by itself, and the sum of them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = tuple(map(float, bounds))  # a float and a whole number take several times as long to compare
        self.counts = [0.0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, amount: float) -> None:
        """Count one observation, in the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, amount)] += 1.0
        self.total += amount


class Table(Collector):
    """Every series there is of the metrics given. `directory` is the workers' own, if there are several."""

    def __init__(self, metrics: Iterable[Metric], directory: Path | None = None) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._numbers: dict[str, dict[Labels, Number]] = {}
        self._distributions: dict[str, dict[Labels, Distribution]] = {}
        self._files = None if directory is None else _Files(directory)
        for name, metric in self._metrics.items():
            if metric.kind is Kind.HISTOGRAM:
                self._distributions[name] = {}
            else:
                self._numbers[name] = {}
            if not metric.labels:
                self._begin(metric, ())

    def number(self, name: str, *labels: str) -> Number:
        """Return a series of a counter or a gauge; KeyError if there is no such metric."""
        known = self._numbers[name]
        if labels not in known:
            self._begin(self._metrics[name], labels)
        return known[labels]

    def distribution(self, name: str, *labels: str) -> Distribution:
        """Return a series of a histogram; KeyError if there is no such metric."""
        known = self._distributions[name]
        if labels not in known:
            self._begin(self._metrics[name], labels)
        return known[labels]

    def describe(self) -> Iterator[Family]:
        """Yield what there is without its values: no two of a registry may have one name."""
        for metric in self._metrics.values():
            yield _histogram(metric, {}) if metric.kind is Kind.HISTOGRAM else _numbers(metric, {})

    def collect(self) -> Iterator[Family]:
        """Yield what there is with its values of this moment."""
        for name, metric in self._metrics.items():
            # Copied at once, since the event loop may add a series meanwhile.
            if metric.kind is Kind.HISTOGRAM:
                yield _histogram(metric, self._distributions[name].copy())
            else:
                yield _numbers(metric, self._numbers[name].copy())

    def _begin(self, metric: Metric, labels: Labels) -> None:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {len(labels)}")
        files = self._files
        if metric.kind is Kind.HISTOGRAM:
            self._distributions[metric.name][labels] = (
                Distribution(metric.buckets) if files is None else _SharedDistribution(files, metric, labels)
            )
        else:
            self._numbers[metric.name][labels] = Number() if files is None else _SharedNumber(files, metric, labels)


class _Files:
    """This process's files, one for each kind of metric."""

    def __init__(self, directory: Path) -> None:
        self._open = {kind: _opened(directory / f"{start}_{os.getpid()}.db") for kind, start in FILES.items()}

    def place(self, metric: Metric, suffix: str, labels: Labels, bound: str | None = None) -> tuple[MmapedDict, str]:
        """Return where a number stands: a file, and the key in it."""
        name = metric.full_name.removesuffix("_total")
        names, values = list(metric.labels), list(labels)
        if bound is not None:
            names, values = [*names, "le"], [*values, bound]
        key = mmap_key(name, name + suffix, names, values, metric.help)
        return self._open[metric.kind], key


class _SharedNumber(Number):
    """A number that stands in a file too."""

    __slots__ = ("_file", "_key", "_stands_at")

    def __init__(self, files: _Files, metric: Metric, labels: Labels) -> None:
        suffix = "_total" if metric.kind is Kind.COUNTER else ""
        self._file, self._key = files.place(metric, suffix, labels)
        self._stands_at = _read(self._file, self._key)

    @property
    def value(self) -> float:
        return self._stands_at

    @value.setter
    def value(self, value: float) -> None:
        self._stands_at = value
        _write(self._file, self._key, value)


class _SharedDistribution(Distribution):
    """A distribution that stands in a file too."""

    __slots__ = ("_file", "_keys", "_sum_key")

    def __init__(self, files: _Files, metric: Metric, labels: Labels) -> None:
        super().__init__(metric.buckets)
        self._file, self._sum_key = files.place(metric, "_sum", labels)
        self._keys = [files.place(metric, "_bucket", labels, bound)[1] for bound in _bounds(metric)]
        self.total = _read(self._file, self._sum_key)
        self.counts = [_read(self._file, key) for key in self._keys]

    def observe(self, amount: float) -> None:
        index = bisect_left(self.bounds, amount)
        self.counts[index] += 1
        self.total += amount
        _write(self._file, self._keys[index], self.counts[index])
        _write(self._file, self._sum_key, self.total)


def _opened(path: Path) -> MmapedDict:
    return MmapedDict(str(path))  # type: ignore[no-untyped-call]  # unannotated there


def _read(file: MmapedDict, key: str) -> float:
    value: float = file.read_value(key)[0]  # type: ignore[no-untyped-call]  # unannotated there
    return value


def _write(file: MmapedDict, key: str, value: float) -> None:
    file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # unannotated there


def _bounds(metric: Metric) -> list[str]:
    shown: list[str] = [floatToGoString(bound) for bound in (*metric.buckets, float("inf"))]  # type: ignore[no-untyped-call]  # unannotated there
    return shown


def _numbers(metric: Metric, series: Mapping[Labels, Number]) -> Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.full_name, metric.help, labels=metric.labels)
    for labels, number in series.items():
        family.add_metric(labels, number.value)
    return family


def _histogram(metric: Metric, series: Mapping[Labels, Distribution]) -> Family:
    family = HistogramMetricFamily(metric.full_name, metric.help, labels=metric.labels)
    bounds = _bounds(metric)
    for labels, one in series.items():
        buckets = list(zip(bounds, accumulate(one.counts), strict=True))
        family.add_metric(labels, buckets, one.total)
    return family


class Found(dict[_Key, _Series]):
    """What `find` returns for each key, remembered; all is forgotten once that is too much."""

    def __init__(self, find: Callable[[_Key], _Series]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: _Key) -> _Series:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self[key] = self._find(key)
        return found
