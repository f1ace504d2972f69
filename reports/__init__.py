"""Results into markdown, Jira, JSON, CSV and terminal text. Computes nothing."""
