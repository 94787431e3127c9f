"""Decoding graphs: pronunciations and a language model in one automaton."""
