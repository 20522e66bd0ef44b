"""What is decided here without touching a file, a socket or a framework."""
