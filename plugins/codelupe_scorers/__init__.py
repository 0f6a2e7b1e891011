"""Gives every stored file a score from 0 to 100, with reasons."""

from __future__ import annotations

from datetime import timedelta

from codelupe import Scorer, Subscription, hookimpl
from codelupe_events import FilesExtracted, FilesScored
from codelupe_scorers.complexity import Complexity
from codelupe_scorers.documentation import Documentation
from codelupe_scorers.naming import Naming
from codelupe_scorers.repetition import Repetition
from codelupe_scorers.scoring import score
from codelupe_scorers.security import Security
from codelupe_scorers.self_containedness import SelfContainedness
from codelupe_scorers.settings import ScorersSettings
from codelupe_scorers.structure import Structure


@hookimpl
def codelupe_settings() -> type[ScorersSettings]:
    return ScorersSettings


@hookimpl
def codelupe_scorers(settings: ScorersSettings) -> list[Scorer]:
    return [
        Structure(settings.structure),
        Documentation(settings.documentation),
        Complexity(settings.complexity),
        Naming(settings.naming),
        Security(settings.security),
        Repetition(settings.repetition),
        SelfContainedness(settings.self_containedness),
    ]


@hookimpl
def codelupe_subscriptions() -> list[Subscription]:
    return [
        Subscription(
            name="score",
            events=(FilesExtracted,),
            emits=(FilesScored,),
            handler=score,
            timeout=timedelta(hours=6),  # for the largest clone on a small machine
            # The files of one commit say nothing about those of the next.
            dead_letter_blocks_stream=False,
        )
    ]
