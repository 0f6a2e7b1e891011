"""The crash test: three daemons on one Postgres, hurt at random while they work, and a checker that reads what is left.

``make chaos`` runs it at length, ``tests/acceptance/test_chaos.py`` in short.
"""
