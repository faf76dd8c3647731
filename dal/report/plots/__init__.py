"""What each plot shows, as drawings."""
