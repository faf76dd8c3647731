"""The commands of `dal`, one file each, and their shared helpers."""
