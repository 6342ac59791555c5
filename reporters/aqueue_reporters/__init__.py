"""The reporters that come with aqueue: rich, plain, jsonl. Each imports only aqueue's public modules."""
