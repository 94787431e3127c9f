"""Text, tokens and pronunciations."""
