"""What a run will need on machines that are not there: memory, work, traffic, time and money."""
