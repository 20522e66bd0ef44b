"""All services on this machine, each a process of its own, watched by a supervisor."""
