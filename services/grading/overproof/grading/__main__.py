"""`python -m overproof.grading`: the grading worker."""

from overproof.grading.app import main

main()
