"""Training: state, loss, the pure step, the loop around it, sharding, checkpoints and metrics."""
