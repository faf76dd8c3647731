"""Lightning modules that the engine can look into."""
