"""Forks, threads, finalisers and signals at any moment."""
