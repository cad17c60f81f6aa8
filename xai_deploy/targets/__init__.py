"""What is explained: a class, a contrast of classes, a seed by hand."""
