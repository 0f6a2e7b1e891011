"""The profile ``demo``: the whole pipeline, once, on a CPU, on the packages installed beside it."""
