"""Studies: they train for minutes to hours and write pages of the documentation."""
