"""Studies: arms x seeds, run to the end whatever happens, compared with paired statistics. No torch in this process."""
