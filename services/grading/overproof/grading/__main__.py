"""`python -m overproof.grading`: the grading worker; `python -m overproof.grading lines`: JSON lines from stdin to stdout."""

import sys

if sys.argv[1:2] == ["lines"]:
    from overproof.grading.lines import main as lines

    sys.exit(lines(sys.argv[2:]))

from overproof.grading.app import main

main()
