"""Many workers at once: real processes on one POD, and a simulation of up to a thousand workers on a network file system."""
