"""Scores, reports and pictures of what was recognised."""
