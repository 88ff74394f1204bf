"""The training loop and what it calls: shards, ranks, saving."""
