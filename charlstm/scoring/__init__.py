"""How well a model predicts a text, and how far back its gradient reaches."""
