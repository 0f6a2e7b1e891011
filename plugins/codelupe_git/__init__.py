"""Starts git on addresses and contents that are not to be trusted; a library of the stages that run it, no plugin."""
