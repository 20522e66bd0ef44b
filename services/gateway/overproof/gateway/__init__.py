"""The HTTP door: runs, data sets, grading. Everything it knows stands in storage; Redis adds only what is live."""
