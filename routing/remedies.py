"""What would have to change for a model to be chosen. Pure."""
