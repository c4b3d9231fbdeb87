"""One-command measurements for a bare machine with one NVIDIA GPU: README.md has the commands, in order."""
