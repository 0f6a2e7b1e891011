"""From a file to the tokens that a model is shown and those that it learns."""
