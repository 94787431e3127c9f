"""From tables of recordings to training batches."""
