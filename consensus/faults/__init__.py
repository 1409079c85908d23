"""Byzantine servers, one lie per file."""
