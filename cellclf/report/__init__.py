"""Recorded runs as one page: tables, plots, HTML and Markdown."""
