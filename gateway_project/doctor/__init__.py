"""Is this installation well? Each check looks at one thing and says what is wrong, why it matters and what mends it.

`findings` says what a check is and what it tells, `examining` runs them; the other modules hold the checks, by what they look at.
The page, the command, REST and the line on the first page all read `examining`.
"""
