"""The source ``github``: repositories that GitHub's search finds."""
