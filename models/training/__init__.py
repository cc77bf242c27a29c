"""Training: recipes, runs, teachers, and what happens at each epoch."""
