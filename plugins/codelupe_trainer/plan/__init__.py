"""What a training takes, in memory, time and disk, told from the model's configuration alone."""
