"""Refresh clones on a schedule: when it is due, what starts it, one run at a time, and what each run did."""
