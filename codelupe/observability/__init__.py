"""Logs, metrics, progress, and the word with systemd."""
