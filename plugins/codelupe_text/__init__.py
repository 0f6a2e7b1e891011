"""What stages share about source text: n-gram hashes and grammars. A library for plugins, not a plugin."""
