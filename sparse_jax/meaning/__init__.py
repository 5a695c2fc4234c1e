"""What the nodes of a circuit mean, with evidence."""
