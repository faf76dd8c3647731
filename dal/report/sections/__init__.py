"""The sections of the page: each file has one function that gives the section, or None where it has no data."""
