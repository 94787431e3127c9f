"""The commands: one file each, assembled by `main`. A file imports what its command needs only when it runs."""
