"""Model families: recipes that turn labels into predictors."""
