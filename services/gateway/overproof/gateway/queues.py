"""Gauges read from Redis when Prometheus asks: queues and leases. They are missing while Redis does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from overproof.shared.errors import BrokerUnavailable
from overproof.shared.leases import Leases
from overproof.shared.topology import Service

QUEUES = tuple(service for service in Service if service is not Service.GATEWAY)


class QueuesCollector(Collector):
    """Length, age and shards under way of every queue."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering asks no Redis."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families, or `overproof_redis_up 0` alone."""
        up = GaugeMetricFamily("overproof_redis_up", "1 while Redis answers the gateway.")
        try:
            families = list(self._read())
        except BrokerUnavailable:
            families = []
        up.add_metric((), bool(families))
        return iter((up, *families))

    def _read(self) -> Iterator[Metric]:
        length = GaugeMetricFamily("overproof_queue_length", "Messages that wait for a worker.", labels=["queue"])
        taken = GaugeMetricFamily("overproof_queue_taken", "Messages that workers have under way.", labels=["queue"])
        age = GaugeMetricFamily(
            "overproof_queue_oldest_message_age_seconds", "How long the oldest waiting message waits.", labels=["queue"]
        )
        for queue in QUEUES:
            figures = self._leases.figures(queue)
            length.add_metric([queue], figures.waiting)
            taken.add_metric([queue], figures.taken)
            age.add_metric([queue], figures.oldest_seconds)
        leases = GaugeMetricFamily("overproof_leases", "Shards under way, by stage.", labels=["stage"])
        for stage, n in self._leases.leased().items():
            leases.add_metric([stage], n)
        return iter((length, taken, age, leases))
