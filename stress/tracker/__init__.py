"""Workers of a tracker that are killed, terminated, interrupted, stopped and restarted."""
