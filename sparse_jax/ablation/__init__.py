"""Ablation values of closed nodes, and how a gated model is judged (METHOD 6, 8)."""
