"""Deep active learning for text classifiers."""
