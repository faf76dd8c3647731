"""The sections of the page, one file each, whose functions return None where there is no data."""
