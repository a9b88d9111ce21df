"""The report of a run, a page to look at, and its model card."""
