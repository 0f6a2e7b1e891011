"""Reads a water meter."""

from reading import Reading


class Meter:
    """Counts the litres that have run through a pipe."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.readings: list[Reading] = []

    def used(self, first: Reading, last: Reading) -> int:
        """Return the litres used between two readings.

        Raises:
            ValueError: the last one is older than the first.
        """
        if last.time < first.time:
            raise ValueError("the readings are in the wrong order")
        return last.litres - first.litres
