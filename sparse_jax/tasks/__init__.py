"""Tasks: pairs of prompts that differ only in what decides between two next tokens."""
