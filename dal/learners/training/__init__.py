"""How a network is trained, kept and read again."""
