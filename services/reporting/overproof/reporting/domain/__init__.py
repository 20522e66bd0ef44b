"""Pure: no framework, no files, no queue."""
