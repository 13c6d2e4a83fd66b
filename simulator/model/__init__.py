"""The model language: pure data that a planner writes, with the rules that lower it to a Program."""
