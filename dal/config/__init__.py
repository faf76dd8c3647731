"""YAML and command line to constructors: the signatures are the config."""
