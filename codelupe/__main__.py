"""``python -m codelupe``."""

from codelupe.cli import main

main()
