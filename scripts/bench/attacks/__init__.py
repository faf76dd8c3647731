"""The parts of `scripts/bench/attack.py`."""
