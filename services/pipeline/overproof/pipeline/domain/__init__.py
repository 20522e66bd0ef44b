"""Pure: what a recipe needs, what to do next, what a row of a data set means."""
