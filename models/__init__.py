"""Train, evaluate, export and publish image classifiers that learn with brain-inspired rules."""
