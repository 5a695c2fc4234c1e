"""What closed nodes carry in place of their values, and how a gated model is judged (METHOD 6, 8)."""
