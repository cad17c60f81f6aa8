"""One network of every timm family and of every transformers image classifier: `scripts/check_zoo`."""
