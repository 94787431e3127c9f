"""Models that a user installs: archives, downloads, and the folder that they go into."""
