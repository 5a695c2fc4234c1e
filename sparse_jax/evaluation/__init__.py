"""From a model and a task to a checked circuit, and from circuits to a comparison."""
