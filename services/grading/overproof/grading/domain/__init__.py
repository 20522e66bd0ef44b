"""Pure rules: finding an answer, reading it, comparing it. No I/O, no process, no heavy library."""
