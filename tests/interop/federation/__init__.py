"""stanzad among other servers."""
