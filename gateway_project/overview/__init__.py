"""The parts of the admin's first page. Charts and figures read sums of hours and minutes, never single requests."""
