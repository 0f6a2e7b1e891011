"""What plugins offer. These modules know nothing of the host."""
