"""The read model: typed functions from a database to data, for terminal and JSON alike."""
