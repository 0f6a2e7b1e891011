"""A GitHub that is simulated: deterministic by its seed, strict as the real one's documents, on a clock of its own.

It stands in for what cannot be had in a test: 200,000 repositories, limits, and faults at will. Tests compare its
answers with GitHub's own OpenAPI description and GraphQL schema, and with recordings of the real API.
"""
