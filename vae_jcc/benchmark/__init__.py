"""What a model costs, and what else could be had for its bytes."""
