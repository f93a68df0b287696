"""A prediction, or a model, against the truth: streamed over the scene, figures with intervals."""
