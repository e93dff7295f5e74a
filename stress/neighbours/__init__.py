"""Others who may write in the directory, and some who may not."""
