"""Reports: results as tables and pictures."""
