"""Networks: samples in, log-probabilities out; independent of files, words and streams."""
