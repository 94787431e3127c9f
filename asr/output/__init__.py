"""What is written of a result: lines, subtitles, captions."""
