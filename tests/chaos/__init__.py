"""The crash test: three daemons on one Postgres, hurt at random while they work, and a checker that reads what is left.

One of them runs an older version of the plugin, which wants a type less. One stream has far more events than any other,
and a dead letter at its head. The database's clock is the driver's.

``make chaos`` runs it at length, ``tests/acceptance/test_chaos.py`` in short.
"""
