"""Bringing a registry over from another system: read, map, plan, apply, verify, undo.

A `Source` (`backoffice`, `config_file`, others later) gives what it read as `Draft`s, and everything it had to reject, merge,
repair or guess as `Finding`s. The engine (`plan`, `apply`, `verify`, `undo`) knows drafts only.
"""
