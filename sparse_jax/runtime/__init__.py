"""What keeps a run alive: processes, locks, preemption, checkpoints, metric writers."""
