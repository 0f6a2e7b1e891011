"""The child process in which models are loaded, trained and compared: the only place that imports torch."""
