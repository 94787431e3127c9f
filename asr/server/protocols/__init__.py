"""What clients speak, a file a protocol."""
