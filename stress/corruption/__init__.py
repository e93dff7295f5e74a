"""Small directories damaged in every way, and parsers fed with anything."""
