"""What is done with models once they are trained: looked at, put in use, taken away, tried."""
