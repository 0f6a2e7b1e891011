"""The peers, each through its public API and at the settings that served it best."""

from benchmarks.eventlog.peers.eventsourcing import Eventsourcing
from benchmarks.eventlog.peers.pgqueuer import Pgqueuer, PgqueuerJobByJob
from benchmarks.eventlog.peers.procrastinate import Procrastinate

__all__ = ["Eventsourcing", "Pgqueuer", "PgqueuerJobByJob", "Procrastinate"]
