"""The command line: the only part that parses arguments and prints."""
