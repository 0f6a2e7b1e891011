"""Which learning rate an adapter of a given rank learns best at."""
