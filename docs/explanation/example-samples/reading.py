"""What a meter showed, and when."""

from datetime import datetime
from typing import NamedTuple


class Reading(NamedTuple):
    time: datetime
    litres: int
