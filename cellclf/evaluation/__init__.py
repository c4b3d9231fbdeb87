"""Predictions and labels → figures with intervals. Pure functions: no files, no framework."""
