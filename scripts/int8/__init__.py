"""What scripts/check_int8 is made of."""
