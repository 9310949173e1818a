"""From probabilities to polygons and centrelines."""
