"""What a run will need on machines this one does not have: memory, FLOPs, traffic, time and money."""
