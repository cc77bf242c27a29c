"""Data sets, augmentation, corruptions and training batches."""
