"""The host's rule language: read, checked, merged with a local file, compiled for the engine.

Usable without the agent: pure over documents, save for `local` (one file) and `resolve` and
`executables` (the user database and the file system). The way of a rule set:

    validate.read_host_item  what the host sent            → model.HostItem, or errors.RulesError
    local.read_local_file    the operator's file           → model.LocalFile
    merge.merge              both                          → model.EffectiveRules
    resolve.Lookup           names to what the kernel says → resolve.Resolution
    compile.compile_table    all endpoints                 → the table for `gpa._native.Snapshot`
"""
