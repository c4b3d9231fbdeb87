"""Recipe → network → fit → run folder. `recipe` and `run` load no framework; the rest imports Keras (backend: $KERAS_BACKEND)."""
