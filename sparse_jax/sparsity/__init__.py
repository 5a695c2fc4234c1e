"""Weight sparsity: which leaves, how many weights, when, and the optimizer step that keeps them at zero."""
