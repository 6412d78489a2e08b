"""Results out to the trackers that a team already has, a file each."""
