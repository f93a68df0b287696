"""What a model needs and loses, measured."""
