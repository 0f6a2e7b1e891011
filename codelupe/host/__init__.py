"""Plugins: found, checked, and asked what they offer."""
