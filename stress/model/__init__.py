"""Random operations, against plain dicts."""
