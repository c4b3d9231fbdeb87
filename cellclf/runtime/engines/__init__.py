"""The runtimes behind the providers table: each opens a serialized model on a target, and the library is loaded by that alone."""
