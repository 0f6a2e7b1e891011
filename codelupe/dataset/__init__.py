"""The files as a data set: which there are, why, how they leave, and how they are forgotten."""
