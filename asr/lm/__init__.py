"""Language models: n-grams, LSTMs, grammars and hotwords."""
