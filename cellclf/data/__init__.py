"""Labelled images: where they are, which are trained and tested on, and their pixels. Knows no framework."""
