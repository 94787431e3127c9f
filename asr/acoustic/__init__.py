"""The acoustic model as a folder: read, written, and the phone states it predicts."""
