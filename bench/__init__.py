"""
What the sidecar costs: beside a bare TLS relay, and beside the ordinary way to write one in Python.

`python -m bench quick` or `full`. bench/README.md says how to read the tables.
"""
