"""What interception needs, looked at one by one: `gpa doctor`. A group of checks is a file, a check
a function from a machine and a configuration to findings; `checks.py` lists them.
"""
