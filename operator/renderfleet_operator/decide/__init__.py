"""What to do next. Pure: no clock, no chance, no network; the whole world comes in as an argument."""
