"""The places that touch files, Redis and other processes."""
