"""Audio that is still arriving: engines, endpoints, the runner, sources. Knows a decoder only by its protocol."""
