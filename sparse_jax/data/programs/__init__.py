"""Productions of the generated Python: one module a topic, put together by `data/simple_python.py`."""
