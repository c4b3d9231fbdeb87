"""The published studies and a user's own: rows, the scale they run at, the runner, and the same-conditions contract."""
