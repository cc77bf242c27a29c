"""From a run to a published model: the test set, the card, and what is said of them."""
