"""In and out: exports, imports, tables, and copies of a directory. What users call is in `methods`, and part of every POD."""
