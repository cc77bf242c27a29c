"""Training: recipes, run folders, teachers, and the work of each epoch."""
