"""The executor of one machine: a pool of worker processes."""

from codelupe.executor.pool import ProcessExecutor

__all__ = ["ProcessExecutor"]
