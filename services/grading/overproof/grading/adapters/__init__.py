"""What touches processes and heavy libraries."""
