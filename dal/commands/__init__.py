"""The commands of `dal`, one file each, and what they share."""
