"""Data: generated and real Python, the tokenizer, the loader."""
