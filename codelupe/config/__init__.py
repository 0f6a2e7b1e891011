"""Settings and directories."""
