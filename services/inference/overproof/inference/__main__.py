"""`python -m overproof.inference`: serve the queue."""

from overproof.inference.app import main

if __name__ == "__main__":  # vLLM starts its engine in a child that imports this module again
    main()
