"""The command line: parse, call, print. Every command is a small module; what it needs is imported when it runs."""
