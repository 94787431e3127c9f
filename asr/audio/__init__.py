"""Sound in and out: files, arrays, the microphone."""
