"""Networks: samples in, log-probabilities out. Nothing here knows about files, words or streams."""
