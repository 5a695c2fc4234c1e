"""Configs in Python: every file has get_config(arg) and begins with the command that uses it."""
