"""One trial, from data to metrics: recipes, inputs, transforms, metrics, and the training itself."""
