"""One module per chart of the report; each returns an Altair chart, and `render` draws it."""
