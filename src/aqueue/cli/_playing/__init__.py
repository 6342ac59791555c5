"""A recorded run handed to reporters, as it goes on or as it was."""
