"""Learning from votes: a published network becomes a challenger, and gates decide about it."""
