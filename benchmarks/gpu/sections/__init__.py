"""The sections of docs/results/gpu.md, from the JSON of the GPU scripts; each says so where nothing has been measured on a GPU."""
