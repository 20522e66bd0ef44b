"""`python -m overproof.training`."""

from overproof.training.app import main

main()
