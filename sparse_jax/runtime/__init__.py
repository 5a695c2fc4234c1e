"""How a run lives on machines: processes, locks, preemption, checkpoints, what is written."""
