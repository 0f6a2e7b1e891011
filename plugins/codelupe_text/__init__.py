"""What stages share about source text: n-gram hashes. A library for plugins, not a plugin."""
