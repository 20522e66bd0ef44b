"""`python -m overproof.pipeline`."""

from overproof.pipeline.app import main

main()
