"""ResNets with searched widths, bottlenecks and depths."""
