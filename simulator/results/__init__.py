"""From records to estimates: warm-up, intervals, percentiles, breakdown, bottleneck."""
