"""Whether a circuit is what the model uses."""
