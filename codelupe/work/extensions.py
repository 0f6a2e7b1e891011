"""What all plugins together offer."""

from __future__ import annotations

from dataclasses import dataclass, field

from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule, RepositorySource
from codelupe.contracts.search import SearchIndex
from codelupe.executor import Executor


@dataclass(kw_only=True)
class Offers:
    """What all plugins together bring, in the order in which the plugins were loaded."""

    sources: list[RepositorySource] = field(default_factory=list)
    repository_rules: list[RepositoryRule] = field(default_factory=list)
    file_rules: list[FileRule] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)
    search_indexes: dict[str, SearchIndex] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)
