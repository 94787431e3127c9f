"""Tables of utterances from the corpora of others."""
