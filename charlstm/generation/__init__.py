"""Text from a model: sampling, beam search, regular expressions."""
