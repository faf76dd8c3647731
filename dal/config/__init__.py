"""Configuration: YAML files and command lines are matched against constructor signatures."""
