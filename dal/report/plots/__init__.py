"""The plots of a report, as drawings."""
