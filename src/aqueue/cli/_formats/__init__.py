"""A run in other formats: lines for people, lines of JSON, tables, a trace."""
