"""A run on several devices: processes of one group, the ranks, which share the work of a round."""
