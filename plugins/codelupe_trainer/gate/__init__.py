"""The gate: evaluation sets that stay as they are, statistics over them, and the rule that promotes a model."""
