"""Report of evaluated trackers: analyses, numbers, tables, plots and a page, in this order."""
