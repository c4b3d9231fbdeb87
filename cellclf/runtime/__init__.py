"""The exported file at work: providers, sessions, the Classifier, and files → predictions. Never imports Keras or TensorFlow."""
