"""Where CPU-heavy functions run: the contract, and a pool of worker processes on this machine."""

from codelupe.executor.contract import Executor, WorkerLost
from codelupe.executor.pool import ProcessExecutor

__all__ = ["Executor", "ProcessExecutor", "WorkerLost"]
