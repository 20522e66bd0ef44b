"""Is this answer right? The grading service and its checker."""
