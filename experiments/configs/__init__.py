"""Configs in Python: every file has get_config(arg) and opens with the command that uses it."""
