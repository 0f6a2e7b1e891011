"""A GitHub that is simulated: deterministic by its seed, as strict as the documents of the real one, on a clock of its own.

It stands in for what cannot be had in a test: 200,000 repositories, limits, and faults at will. What the real API's
answers look like is checked by recordings and by GitHub's own descriptions of it, in other tests.
"""
