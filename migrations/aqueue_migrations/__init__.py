"""The schema of the journal, as migrations that are only ever appended to."""
