"""What is wrong, or not as it seems, in a file of rules; docs/lint.md has a section for each.

A check is a function from a `subject.Subject` to findings. It sees values, and the machine only
through `machine.Machine`, so that a laptop can stand in for it or an image's root folder.
`examine.examine` runs them all.
"""
