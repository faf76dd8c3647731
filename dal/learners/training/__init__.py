"""Training, saving and loading of networks."""
