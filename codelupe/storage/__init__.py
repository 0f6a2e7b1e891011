"""The file system: files and folders that appear whole or not at all, and locks on files."""
