"""How fast the event log is, beside bare asyncpg and its peers on the same Postgres in the same run.

``make bench-eventlog`` runs :mod:`benchmarks.eventlog.__main__`. :mod:`.cases` says what is measured and which ratios
must hold, :mod:`.ours`, :mod:`.ceiling` and :mod:`.peers` do it, :mod:`.report` compares.
"""
