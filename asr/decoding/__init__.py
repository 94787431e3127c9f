"""From rows of log-probabilities to words."""
