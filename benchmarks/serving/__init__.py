"""What `cellclf serve` does under load: capacity, overload, soak, restart, and two peers. `python -m benchmarks.serving.run --help`."""
