from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def secrets_cache(compiled_rules: Path) -> str:
    """A folder in which the rules for secrets lie compiled."""
    return str(compiled_rules)
