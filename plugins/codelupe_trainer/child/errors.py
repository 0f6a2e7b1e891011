"""What can go wrong for good."""

from __future__ import annotations


class Unusable(Exception):
    """The job cannot be done, however often it is tried; the message says why."""
