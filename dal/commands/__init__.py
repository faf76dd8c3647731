"""The commands of `dal` that have a file of their own."""
