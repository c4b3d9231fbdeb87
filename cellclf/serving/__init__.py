"""Exported files behind HTTP: one process, one event loop, a worker thread a core. Never imports Keras or TensorFlow; needs the extra `serve`."""
