"""Output of results: lines, subtitles, captions."""
