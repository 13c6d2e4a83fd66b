"""Request traces: recorded requests with their arrival times and token counts, kept as columns on disk."""
