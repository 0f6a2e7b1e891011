from __future__ import annotations

import pytest

from codelupe_filters.redaction import load_scanner


@pytest.fixture(scope="session")
def secrets_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in which the rules for secrets lie compiled."""
    folder = str(tmp_path_factory.mktemp("secret-rules"))
    load_scanner(folder)
    return folder
