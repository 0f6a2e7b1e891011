"""What plugins' status sections say to Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import anyio
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from codelupe.contracts.boundary import ContributionFailed
from codelupe.host.status_sections import Metric, StatusSection
from codelupe.postgres import Database
from codelupe.postgres.retry import retry_while_unavailable

READ_EVERY_SECONDS = 15.0
_FRESH_SECONDS = 3 * READ_EVERY_SECONDS
"""Older figures are not shown: what holds now is unknown without new ones."""

log = structlog.get_logger("codelupe")


class SectionMetrics(Collector):
    """Keeps the newest figures of each section that has some."""

    def __init__(self, sections: Sequence[StatusSection]) -> None:
        self._sections = [each for each in sections if each.metrics is not None]
        self._newest: dict[str, tuple[float, list[Family]]] = {}
        self._failing: set[str] = set()

    async def watch(self, database: Database) -> None:
        """Read them again and again, until cancelled. A section that fails has none; it is said once."""
        while self._sections:
            await retry_while_unavailable(lambda: self.read_all(database), "metrics of plugins")
            await anyio.sleep(READ_EVERY_SECONDS)

    async def read_all(self, database: Database) -> None:
        """Read them once.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        for section in self._sections:
            await self._read(section, database)

    async def _read(self, section: StatusSection, database: Database) -> None:
        assert section.metrics is not None
        try:
            metrics = section.metrics(await section.read(database))
        except ContributionFailed as failure:
            self._newest.pop(section.name, None)
            if section.name not in self._failing:
                log.warning(
                    "status_section_failed",
                    plugin=failure.part.plugin,
                    section=failure.part.name,
                    error=failure.message,
                )
            self._failing.add(section.name)
            return
        self._failing.discard(section.name)
        self._newest[section.name] = time.monotonic(), [_family(section.name, each) for each in metrics]

    def collect(self) -> Iterator[Family]:
        """Called by the server's threads."""
        for read_at, families in list(self._newest.values()):
            if time.monotonic() - read_at < _FRESH_SECONDS:
                yield from families


def _family(section: str, metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
    labels = list(metric.samples[0][0]) if metric.samples else []
    name = f"codelupe_{re.sub('[^a-z0-9]', '_', section.lower())}_{metric.name}"
    family = kind(name, metric.meaning, labels=labels)
    for values, value in metric.samples:
        family.add_metric([values[label] for label in labels], value)
    return family
