"""One verb a file: `add_parser(subparsers)` declares it, `run(args)` does it and returns the exit
code.

A verb imports what it needs when it runs, so that `gpa status` starts in milliseconds.
"""
