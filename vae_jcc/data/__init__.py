"""Images with labels: where they come from (sources), how they reach the step (pipeline)."""
